/** Which files travel together: labels must arrive with the pictures that they are about. */

export interface Named {
  readonly name: string;
  readonly size: number;
}

const BATCH_FILES = 40;
const BATCH_BYTES = 64 * 1024 ** 2;

const extension = (name: string): string => name.slice(name.lastIndexOf(".") + 1).toLowerCase();
const stem = (name: string): string => name.slice(name.lastIndexOf("/") + 1).replace(/\.[^.]*$/, "").toLowerCase();

/**
 * A COCO or DeepLabCut file may name any picture, so with one of them everything goes in one request. Otherwise
 * batches keep each picture with the VOC file of its name, and a failure costs one batch.
 */
export function batches<File extends Named>(files: readonly File[]): File[][] {
  if (files.some((file) => ["json", "csv"].includes(extension(file.name)))) return [[...files]];
  const groups = new Map<string, File[]>();
  for (const file of files) groups.set(stem(file.name), [...(groups.get(stem(file.name)) ?? []), file]);
  const made: File[][] = [];
  let bytes = Infinity;
  for (const group of groups.values()) {
    const size = group.reduce((sum, file) => sum + file.size, 0);
    const last = made.at(-1);
    if (last && last.length + group.length <= BATCH_FILES && bytes + size <= BATCH_BYTES) {
      last.push(...group);
      bytes += size;
    } else {
      made.push([...group]);
      bytes = size;
    }
  }
  return made;
}
