import { expect, test } from "vitest";
import { ActiveClock } from "../../src/core/clock";

test("work counts, a coffee break does not", () => {
  const clock = new ActiveClock(0);
  clock.tick(4_000);
  clock.tick(10_000);
  clock.tick(600_000);
  clock.tick(602_500);
  expect(clock.seconds).toBe(12.5);
});

test("time spent on another picture does not count, time restored from the journal does", () => {
  const clock = new ActiveClock(0, 40);
  clock.tick(1_000);
  clock.resume(20_000);
  clock.tick(21_000);
  expect(clock.seconds).toBe(42);
});
