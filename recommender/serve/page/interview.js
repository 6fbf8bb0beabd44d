// "Help us know you": questions to a person, three at a time, and their answers.

const ROUND = 3, MOST = 99;
const REPLIES = { yes: "Yes", no: "No", unknown: "Don't know" };

export class Interview {
  answers = []; // [{ item_id, answer }], of this page alone
  until = 0; // no question is asked after so many answers
  focus = false; // whether the next question takes the focus

  // box: the element; tools: what makes elements; act: asks the service again after a change.
  constructor(box, tools, act) {
    Object.assign(this, { box, tools, act });
    this.show(null);
  }

  get active() {
    return this.until > 0;
  }

  reset(answers = []) {
    this.answers = answers.slice(0, MOST);
    this.until = Math.ceil(this.answers.length / ROUND) * ROUND;
    this.focus = false;
    this.show(null);
  }

  // What an answer counts in a profile.
  get session() {
    return this.answers.filter((one) => one.answer === "yes").map((one) => ({ item_id: one.item_id, event_type: "purchase" }));
  }

  write(parts) {
    for (const one of this.answers) parts.append("answer", `${one.answer}:${one.item_id}`);
  }

  read(parts, known) {
    const found = parts.getAll("answer").map((one) => one.match(/^(yes|no|unknown):(.+)$/s)).filter((one) => one && known(one[2]));
    this.reset(found.map(([, answer, item_id]) => ({ item_id, answer })));
  }

  // Each answer in words, and what takes it back.
  deeds(name) {
    return this.answers.map((one) => [`${REPLIES[one.answer]}: ${name(one.item_id)}`, () => {
      this.answers = this.answers.filter((other) => other !== one);
      this.focus = true;
      this.until = Math.max(ROUND, Math.ceil((this.answers.length + 1) / ROUND) * ROUND);
    }]);
  }

  ask() {
    this.act(() => {
      this.until = this.answers.length + ROUND;
      this.focus = true;
    });
  }

  reply(item_id, answer) {
    this.act(() => {
      this.answers.push({ item_id, answer });
      this.focus = true;
    });
  }

  // answer: what the service says; null before it was asked.
  show(answer) {
    const { make, told, button } = this.tools, question = answer?.question, rows = [];
    const going = question && this.answers.length < Math.min(this.until, MOST);
    const acts = make("div", "", { className: "acts" });
    if (going) {
      const place = this.answers.length - (this.until - ROUND) + 1;
      rows.push(make("p", `Question ${place} of ${ROUND}`, { className: "dim" }));
      const words = told("p", question.sentence, { id: "interview-question", className: "clamped", tabIndex: -1 });
      rows.push(words);
      for (const [reply, label] of Object.entries(REPLIES)) acts.append(button(label, "", () => this.reply(question.item_id, reply)));
    } else {
      const done = this.active && answer;
      const why = !done ? "Three questions, of which an answer tells most: the list changes after each."
        : question ? "Thank you: the list has what you said." : "There is nothing left to ask.";
      rows.push(make("p", why, { className: "dim", id: "interview-question", tabIndex: -1 }));
      if ((!done || question) && this.answers.length < MOST) acts.append(button(done ? "Three more questions" : "Ask me", "", () => this.ask()));
    }
    this.box.replaceChildren(make("h2", "Help us know you"), ...rows, acts);
  }

  // Moves the focus to what is asked next, after an answer; says whether it did.
  focused() {
    if (!this.focus) return false;
    this.focus = false;
    this.box.querySelector("#interview-question").focus();
    return true;
  }
}
