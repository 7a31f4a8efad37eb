// Tabs after the ARIA pattern: arrow keys move, the address remembers.

function startTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const shown = () => tabs.filter((tab) => !tab.hidden);
  const choose = (tab) => {
    for (const each of tabs) {
      const chosen = each === tab;
      each.setAttribute("aria-selected", String(chosen));
      each.tabIndex = chosen ? 0 : -1;
      document.getElementById(each.getAttribute("aria-controls")).hidden = !chosen;
    }
  };
  const fromAddress = () => choose(shown().find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash) ?? tabs[0]);
  for (const tab of tabs) {
    tab.addEventListener("click", () => {
      history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
      choose(tab);
    });
    tab.addEventListener("keydown", (event) => {
      const all = shown();
      const here = all.indexOf(tab);
      const steps = { ArrowLeft: here - 1, ArrowRight: (here + 1) % all.length, Home: 0, End: -1 };
      if (!(event.key in steps)) return;
      event.preventDefault();
      const target = all.at(steps[event.key]);
      target.focus();
      target.click();
    });
  }
  addEventListener("hashchange", fromAddress);
  fromAddress();
  return fromAddress;
}
