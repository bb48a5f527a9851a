import { expect, test } from "vitest";
import { batches } from "../../src/pages/upload/batches";

const file = (name: string, size = 1000) => ({ name, size });

test("pictures go in batches, and every file goes exactly once", () => {
  const files = Array.from({ length: 95 }, (_, index) => file(`${index}.jpg`));
  const made = batches(files);
  expect(made.map((batch) => batch.length)).toEqual([40, 40, 15]);
  expect(made.flat()).toEqual(files);
});

test("a large picture does not wait for others", () => {
  const made = batches([file("a.jpg", 60e6), file("b.jpg", 60e6), file("c.jpg", 100e6)]);
  expect(made).toHaveLength(3);
});

test("a VOC file travels with its picture, wherever they stand in the list", () => {
  const pictures = Array.from({ length: 60 }, (_, index) => file(`images/${index}.jpg`));
  const labels = pictures.map((picture) => file(picture.name.replace("images", "labels").replace(".jpg", ".xml")));
  for (const batch of batches([...pictures, ...labels])) {
    const names = batch.map((item) => item.name);
    for (const name of names.filter((item) => item.endsWith(".jpg"))) {
      expect(names).toContain(name.replace("images", "labels").replace(".jpg", ".xml"));
    }
  }
});

test("with a COCO file everything goes together", () => {
  const files = [...Array.from({ length: 95 }, (_, index) => file(`${index}.jpg`)), file("labels.json")];
  expect(batches(files)).toEqual([files]);
});
