"use strict";
(() => {
  const by = (id) => document.getElementById(id);
  const list = by("pictures");
  const articles = [...list.children].map((element, place) => {
    const known = element.querySelector(":scope > div > .truth")?.textContent ?? "";
    const questions = [...element.querySelectorAll(".question")].map((question) => ({
      element: question,
      text: `${element.dataset.name}\n${known}\n${question.textContent}`.toLocaleLowerCase(),
      wrong: Number(question.dataset.wrong),
      length: Number(question.dataset.length),
    }));
    return { element, place, questions, name: element.dataset.name };
  });
  const total = articles.reduce((sum, article) => sum + article.questions.length, 0);
  const names = new Intl.Collator(undefined, { numeric: true });

  const most = (article, key) => Math.max(...article.shown.map((question) => question[key]));
  const orders = {
    run: (a, b) => a.place - b.place,
    name: (a, b) => names.compare(a.name, b.name) || a.place - b.place,
    wrong: (a, b) => most(b, "wrong") - most(a, "wrong") || a.place - b.place,
    longest: (a, b) => most(b, "length") - most(a, "length") || a.place - b.place,
    shortest: (a, b) => most(a, "length") - most(b, "length") || a.place - b.place,
  };

  const update = () => {
    const text = by("text").value.trim().toLocaleLowerCase();
    const kind = by("kind").value;
    const suite = by("suite")?.value ?? "";
    let count = 0;
    for (const article of articles) {
      article.shown = article.questions.filter(({ element, text: own }) =>
        own.includes(text) &&
        (!suite || element.dataset.suite === suite) &&
        (!kind || element.dataset.kinds.split(" ").includes(kind)));
      for (const question of article.questions) question.element.hidden = !article.shown.includes(question);
      article.element.hidden = article.shown.length === 0;
      count += article.shown.length;
    }
    const visible = articles.filter((article) => article.shown.length);
    const hidden = articles.filter((article) => !article.shown.length);
    list.append(...[...visible.sort(orders[by("order").value]), ...hidden].map((article) => article.element));
    by("count").textContent =
      `${count} of ${total} questions, about ${visible.length} of ${articles.length} pictures`;
  };

  let waiting = 0;
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("filters").addEventListener("change", update);
  by("filters").addEventListener("reset", () => setTimeout(update));
  by("text").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 100);
  });
  by("colors").addEventListener("change", (event) => {
    document.documentElement.dataset.colors = event.target.value;
  });
  update();
})();
