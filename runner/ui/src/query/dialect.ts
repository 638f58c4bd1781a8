// The words of SQL as it is spoken here, for colours and completion.

import { SQLDialect } from "@codemirror/lang-sql";

const KEYWORDS =
  "add all and any array as asc between by case cast check columns create cross current desc describe descriptor distinct else end enforced except execute exists explain extract false fetch filter first following for from full function group grouping having if in inner insert intersect interval into is join jobs key last lateral left like limit materialized metadata model natural next not null nulls of offset on only or order ordinality outer over partition partitioned preceding primary range recursive returning right rollup row rows select semi anti set sets show similar slide some step system_time table tables temporary then to true unbounded union unnest update using values view views virtual watermark when where window with within";

const TYPES =
  "tinyint smallint int integer bigint float double precision decimal numeric boolean varchar char string text timestamp date time varbinary bytes struct map multiset";

export const Dialect = SQLDialect.define({
  keywords: KEYWORDS,
  types: TYPES,
  // Names match without regard to case.
  caseInsensitiveIdentifiers: true,
});
