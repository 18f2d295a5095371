/**
 * Which names may contain a part, on PostgreSQL: found by the part's rarest trigrams, which a sample of the names tells.
 * The index and the exact search in it are `postgres-dialect.ts`'s; what comes from here is checked in `sql-plan.ts`.
 */

import type { Kysely } from "kysely";
import { sql } from "kysely";
import { setBounded } from "../bounded-map.ts";
import type { Schema } from "./schema.ts";
import type { NameIndex, Sql, Values } from "./sql.ts";
import { all, integer, statement, statements, text } from "./sql.ts";

/** So many trigrams of a part are asked for at most: together they are rare enough, and each more costs a walk. */
const ASKED = 4;
/** A trigram that one of so many names has is common: reading all that have it is not worth it. */
const COMMON = 16;
/** A sample is so many names from each of so many places along the listing. */
const NAMES = 16;
const PLACES = 16;
/** Listings of which a sample is kept; each is some tens of kilobytes. */
const SAMPLES_MAX = 100;
/** A sample is taken anew after so many searches: other docks may have grown. */
const SEARCHES_MAX = 1_000;
/** A listing of at least one in so many rows of the table is looked for among all docks' names: few are others'. */
const SHARE = 4;
/** What is one trigram to pg_trgm whatever the locale; other characters may part words, and then are in none. */
const TRIGRAM = /(?=([a-z0-9]{3}))/g;

interface Sample {
  readonly names: readonly string[];
  /** How many rows the listing had. */
  readonly documents: number;
  /** How many the table had, as the server counted them last; below 0 where it never has. */
  readonly rows: number;
  searches: number;
}

/**
 * As one pattern the index would look for all trigrams of a part in each name that has the rarest one, those that
 * nearly every name has as well; so a few are asked for, each as a condition of its own. For the same reason the rows of
 * a listing that is a good part of the table are told from other docks' only when they have been found.
 */
export function postgresCandidates(db: Kysely<Schema>): NameIndex["candidates"] {
  const own = (p: Values) => sql`a.dock_id = ${text(p["nameDock"])} and a.face = ${text(p["nameFace"])}`;
  const sampled = statement((p: Values) => ({
    compile: () => {
      const listed = sql`${own(p)} and a.status = 'upload_completed'`;
      return sql<{ folded: string; rows: number }>`select s.folded,
          (select reltuples from pg_class where oid = 'artifact'::regclass) as rows from
        (select min(a.created_at) as oldest, max(a.created_at) as newest from artifact as a where ${listed}) as ends
        cross join generate_series(0, ${sql.lit(PLACES - 1)}) as place
        cross join lateral (
          select a.folded from artifact as a
          where ${listed} and a.created_at >= oldest + (newest - oldest) * place / ${sql.lit(PLACES)}
          order by a.created_at, a.id limit ${sql.lit(NAMES)}
        ) as s`.compile(db);
    },
  }));
  const found = statements<Values, { n: number; own: boolean }>();
  const search = (trigrams: number, isOfDock: boolean) =>
    found(`${trigrams} ${isOfDock}`, (p) => {
      const likes = Array.from({ length: trigrams }, (_, i) => sql`a.folded like ${p[`trigram${i}`]}`);
      const where = sql.join([...(isOfDock ? [own(p)] : []), ...likes], sql` and `);
      // The offset keeps the limit out: the planner would rather read the table until so many have come.
      const query = sql<{ n: number; own: boolean }>`select n, own from (
          select a.n, ${own(p)} as own from artifact as a
          where a.status = 'upload_completed' and ${where} offset 0
        ) as found limit ${integer(p["limit"])}`;
      return { compile: () => query.compile(db) };
    });

  /** Only a hint: whatever is asked for, what comes is checked. */
  const samples = new Map<string, Sample>();

  /** Taken anew when the listing has grown to twice its size, too. */
  function* sampleOf(p: Values): Sql<Sample> {
    const key = `${String(p["nameFace"])} ${String(p["nameDock"])}`;
    const documents = p["documents"] as number;
    const known = samples.get(key);
    if (known !== undefined && documents <= known.documents * 2 && known.searches++ < SEARCHES_MAX) {
      return known;
    }
    const found = yield* all(sampled(p));
    const names = found.map(({ folded }) => folded);
    const sample = { names, documents, rows: found[0]?.rows ?? 0, searches: 0 };
    setBounded(samples, key, sample, SAMPLES_MAX);
    return sample;
  }

  return function* (p, limit) {
    const { names, rows: tableRows } = yield* sampleOf(p);
    const trigrams = new Set(Array.from((p["part"] as string).matchAll(TRIGRAM), ([, trigram]) => trigram!));
    const rarest = [...trigrams]
      .map((trigram) => ({ trigram, count: names.filter((name) => name.includes(trigram)).length }))
      .filter(({ count }) => count * COMMON <= names.length)
      .sort((a, b) => a.count - b.count)
      .slice(0, ASKED);
    if (rarest.length === 0) return null;
    const patterns = rarest.map(({ trigram }, i) => [`trigram${i}`, `%${trigram}%`]);
    const isOfDock = (p["documents"] as number) * SHARE < tableRows;
    const query = search(rarest.length, isOfDock);
    const rows = yield* all(query({ ...p, ...(Object.fromEntries(patterns) as Values), limit }));
    return rows.length < limit ? rows.filter((row) => row.own).map(({ n }) => n) : null;
  };
}
