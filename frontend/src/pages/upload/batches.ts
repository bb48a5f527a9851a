/** Which files travel together: few enough that a failure costs little, many enough that requests do not count. */

export interface Named {
  readonly name: string;
  readonly size: number;
}

const BATCH_FILES = 40;
const BATCH_BYTES = 64 * 1024 ** 2;

/** The server puts labels and pictures together by their paths when all are there, so any order will do. */
export function batches<File extends Named>(files: readonly File[]): File[][] {
  const made: File[][] = [];
  let bytes = Infinity;
  for (const file of files) {
    const last = made.at(-1);
    if (last && last.length < BATCH_FILES && bytes + file.size <= BATCH_BYTES) {
      last.push(file);
      bytes += file.size;
    } else {
      made.push([file]);
      bytes = file.size;
    }
  }
  return made;
}

/** The files that are not there yet: by path and size, as the bytes' hash would need them all read. */
export function missing<File extends Named>(files: readonly File[], there: ReadonlyMap<string, number>): File[] {
  return files.filter((file) => there.get(file.name) !== file.size);
}
