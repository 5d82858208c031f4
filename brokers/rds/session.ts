export type Binding = string | number | null;
export type Row = Readonly<Record<string, unknown>>;

/** One connection, for as long as it is lent. Statements take `?` for each binding and reject with a BrokerError. */
export interface Session {
  all(sql: string, bindings?: readonly Binding[]): Promise<Row[]>;
  /** Answers how many rows changed. */
  run(sql: string, bindings?: readonly Binding[]): Promise<number>;
}

/** Databases answer big integers as numbers or as text. */
export function integer(row: Row, column: string): number {
  return Number(row[column]);
}

export function integerOrNull(row: Row, column: string): number | null {
  const value = row[column];
  return value === null || value === undefined ? null : Number(value);
}

export function text(row: Row, column: string): string {
  return textOrNull(row, column) ?? '';
}

export function textOrNull(row: Row, column: string): string | null {
  const value = row[column];
  return typeof value === 'string' ? value : null;
}

/** Far beyond any date, and `now + LONGEST_MS` is still an exact number. */
const LONGEST_MS = 2 ** 52;

/** A duration as the tables keep it: whole milliseconds, never negative, `Infinity` as far ahead as can be. */
export function wholeMs(ms: number): number {
  return Math.min(Math.max(0, Math.ceil(ms)), LONGEST_MS);
}
