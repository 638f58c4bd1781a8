// How a classification did on rows that it had not learned from: what it took for what, and how its scores lie.

import { count, counted, figure } from "../format";
import type { JudgedView, ScoresView } from "../types";
import { type Column, Table } from "./table";

/** More are no table that one can read; their recall is told class by class. */
const MATRIX_MAX = 30;

interface Class {
  name: string;
  truths: number;
  predicted: number;
  right: number;
}

const sum = (numbers: number[]) => numbers.reduce((all, one) => all + one, 0);

const shareText = (part: number, whole: number) => (whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : "–");

function classesOf({ classes, confusion }: JudgedView): Class[] {
  return classes.map((name, at) => ({
    name,
    truths: sum(confusion[at] ?? []),
    predicted: sum(confusion.map((row) => row[at] ?? 0)),
    right: confusion[at]?.[at] ?? 0,
  }));
}

export function Judged({ judged }: { judged: JudgedView | null | undefined }) {
  if (!judged || judged.rows === 0) return null;
  const right = sum(judged.confusion.map((row, at) => row[at] ?? 0));
  return (
    <>
      <h2>On {counted(judged.rows, "held-out row")}</h2>
      <p>
        {count(right)} are right, {shareText(right, judged.rows)}.
      </p>
      <div class="judged">
        {judged.classes.length <= MATRIX_MAX ? <Matrix judged={judged} /> : <Recall judged={judged} />}
        {judged.scores && <Scores scores={judged.scores} />}
      </div>
    </>
  );
}

function Matrix({ judged }: { judged: JudgedView }) {
  const classes = classesOf(judged);
  return (
    <div class="scroll" role="region" aria-label="Confusion matrix" tabIndex={0}>
      <table class="matrix">
        <caption>What was predicted, by what is true</caption>
        <thead>
          <tr>
            <td>
              <span class="soft">truth ↓ predicted →</span>
            </td>
            {classes.map(({ name }) => (
              <th scope="col" key={name} class="number">
                {name}
              </th>
            ))}
            <th scope="col" class="number">
              recall
            </th>
          </tr>
        </thead>
        <tbody>
          {classes.map(({ name, truths, right }, row) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              {classes.map((predicted, column) => {
                const n = judged.confusion[row]?.[column] ?? 0;
                return (
                  <td key={predicted.name} class={row === column ? "number right" : n > 0 ? "number wrong" : "number"} style={{ "--share": truths > 0 ? n / truths : 0 }} title={`${name} taken for ${predicted.name}: ${count(n)}, ${shareText(n, truths)}`}>
                    {count(n)}
                  </td>
                );
              })}
              <td class="number">{shareText(right, truths)}</td>
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">precision</th>
            {classes.map(({ name, right, predicted }) => (
              <td key={name} class="number">
                {shareText(right, predicted)}
              </td>
            ))}
            <td />
          </tr>
        </tfoot>
      </table>
    </div>
  );
}

const COLUMNS: Column<Class>[] = [
  { name: "class", cell: ({ name }) => name, by: ({ name }) => name },
  { name: "rows", cell: ({ truths }) => count(truths), by: ({ truths }) => truths, number: true },
  { name: "recall", cell: ({ right, truths }) => shareText(right, truths), by: ({ right, truths }) => (truths > 0 ? right / truths : -1), number: true },
  { name: "precision", cell: ({ right, predicted }) => shareText(right, predicted), by: ({ right, predicted }) => (predicted > 0 ? right / predicted : -1), number: true },
];

function Recall({ judged }: { judged: JudgedView }) {
  return <Table caption="Recall and precision by class" rows={classesOf(judged)} columns={COLUMNS} id={({ name }) => name} words={({ name }) => name} empty="" perPage={20} />;
}

/** Both truths back to back over the same scores, so that neither hides the other. */
function Scores({ scores: { edges, negative, positive } }: { scores: ScoresView }) {
  const most = Math.max(1, ...negative, ...positive);
  const bar = (n: number) => ({ "--share": n / most });
  return (
    <div class="scroll" role="region" aria-label="Scores" tabIndex={0}>
      <table class="scores">
        <caption>How many rows have which score, by what is true</caption>
        <thead>
          <tr>
            <th scope="col" class="number">
              negative
            </th>
            <th scope="col">score</th>
            <th scope="col">positive</th>
          </tr>
        </thead>
        <tbody>
          {negative.map((n, at) => (
            <tr key={at}>
              <td class="negative">
                <span class="n">{count(n)}</span>
                <span class="score" style={bar(n)} />
              </td>
              <th scope="row">
                {figure(edges[at])}–{figure(edges[at + 1])}
              </th>
              <td class="positive">
                <span class="score" style={bar(positive[at] ?? 0)} />
                <span class="n">{count(positive[at] ?? 0)}</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
