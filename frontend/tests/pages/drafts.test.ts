import { expect, test } from "vitest";
import { newerDraft } from "../../src/pages/annotate/session";

test("a person with a picture in two tabs is told which, when, and that nothing is lost", () => {
  const told = newerDraft("mouse 7.png", "2026-01-01T10:05:00Z");
  expect(told).toMatch(/^Another tab of yours saved mouse 7\.png at .*05.*: both are kept/);
});
