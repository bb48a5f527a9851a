import "../../styles/annotate.css";
import { render } from "preact";
import type { JSX } from "preact";
import { pageData } from "../page-data";
import { dialog, listenForKeys, type App } from "./commands";
import { GuideDialog, HelpDialog, SkipDialog } from "./dialogs";
import { ClassPanel, CommandButton, InHand, JointPanel, ObjectPanel, Recovery, Stagehand, StatusLine, Toolbar } from "./panels";
import { Session } from "./session";
import { Stage } from "./stage";
import { stageVersion } from "./state";

interface Data {
  readonly project_id: number;
  readonly user_id: number;
  readonly username: string;
  readonly guide: string;
}

const data = pageData<Data>();
const stageElement = element("stage");
const session: Session = new Session({
  projectId: data.project_id,
  userId: data.user_id,
  username: data.username,
  onOpened: (work) => {
    stage.show(work);
    stageElement.setAttribute("aria-label", work ? `Picture ${work.leased.task.name}` : "No picture");
  },
  onPicture: (work) => stage.pictureArrived(work),
});
const stage = new Stage({
  element: stageElement,
  session,
  say: (why) => session.say(why ?? ""),
  onChange: () => (stageVersion.value += 1),
});
const app: App = { session, stage };

function Actions(): JSX.Element {
  void session.version.value;
  const idle = !session.current;
  return (
    <>
      <InHand app={app} />
      {data.guide && (
        <button type="button" class="button quiet" data-testid="guide" onClick={() => (dialog.value = "guide")}>
          Guide
        </button>
      )}
      <CommandButton app={app} command="skip" label="Skip" disabled={idle} />
      <CommandButton app={app} command="submit" label="Submit" disabled={idle} primary />
    </>
  );
}

render(<Toolbar app={app} />, element("tools"));
render(<Actions />, element("actions"));
render(<ClassPanel app={app} />, element("classes"));
render(
  <>
    <Recovery app={app} />
    <ObjectPanel app={app} />
    <JointPanel app={app} />
  </>,
  element("objects"),
);
render(<StatusLine app={app} />, element("status"));
render(<Stagehand app={app} />, element("cover"));
render(
  <>
    <HelpDialog app={app} />
    <SkipDialog app={app} />
    <GuideDialog app={app} guide={data.guide} />
  </>,
  element("dialogs"),
);

listenForKeys(app);
// a button pressed by the pointer leaves the keyboard where it was: on the picture
document.addEventListener("mousedown", (event) => {
  if (event.target instanceof Element && event.target.closest("button")) event.preventDefault();
});
window.addEventListener("online", () => {
  session.outbox.retry();
  void session.topUp();
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") session.keep();
  else session.outbox.retry();
});
window.addEventListener("pagehide", () => session.close());
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // its leases were given back
});
warnOfOtherTabs();
stage.focus();
void session.start();

/** Two tabs of one person hold the same tasks: both are told, nothing is closed. */
function warnOfOtherTabs(): void {
  const channel = new BroadcastChannel(`labelwheel:${data.project_id}:${data.user_id}`);
  const warn = (): void => session.say("This project is open in another tab too: work in one of them");
  channel.onmessage = (event) => {
    if (event.data === "hello") channel.postMessage("here");
    warn();
  };
  channel.postMessage("hello");
}

function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no #${id}`);
  return found;
}
