import { expect, test } from "vitest";
import { inkOn, Occupied } from "../../src/render/labels";

test("in a crowd a name gives way to one that stands there already", () => {
  const occupied = new Occupied();
  expect(occupied.take(10, 10, 50, 18)).toBe(true);
  expect(occupied.take(40, 20, 50, 18)).toBe(false);
  expect(occupied.take(100, 10, 50, 18)).toBe(true);
  expect(occupied.take(10, 60, 50, 18)).toBe(true);
});

test.each([
  ["#F0E442", "#000000"],
  ["#56B4E9", "#000000"],
  ["#0072B2", "#ffffff"],
  ["#000000", "#ffffff"],
  ["#ffffff", "#000000"],
])("the name on %s is written in %s", (color, ink) => {
  expect(inkOn(color)).toBe(ink);
});
