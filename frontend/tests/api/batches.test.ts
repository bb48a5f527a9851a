import { expect, test } from "vitest";
import { batches, missing } from "../../src/pages/upload/batches";

const file = (name: string, size = 1000) => ({ name, size });

test("files go in batches, and every file goes exactly once", () => {
  const files = [...Array.from({ length: 95 }, (_, index) => file(`${index}.jpg`)), file("labels.json")];
  const made = batches(files);
  expect(made.map((batch) => batch.length)).toEqual([40, 40, 16]);
  expect(made.flat()).toEqual(files);
});

test("a large picture does not wait for others", () => {
  const made = batches([file("a.jpg", 60e6), file("b.jpg", 60e6), file("c.jpg", 100e6)]);
  expect(made).toHaveLength(3);
});

test("what is there already is not sent again, and what has another size is", () => {
  const files = [file("a.jpg", 1), file("b.jpg", 2), file("c.jpg", 3)];
  const there = new Map([["a.jpg", 1], ["b.jpg", 20]]);
  expect(missing(files, there).map((item) => item.name)).toEqual(["b.jpg", "c.jpg"]);
});
