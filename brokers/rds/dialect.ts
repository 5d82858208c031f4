import { sqliteFailure } from './sqlite-errors.ts';

/** Everything in which the databases differ, but for their clients. SQL of the brokers is written for all of them. */
export interface Dialect {
  /** UTC milliseconds of the database's clock, whatever the time zone of the session. */
  readonly now: string;
  /** Begins a transaction that may write. */
  readonly begin: string;
  /** Ends a select whose rows are written next in the same transaction. */
  readonly lock: string;
  /** The same, leaving out rows that another transaction has locked. */
  readonly skipLocked: string;
  /** A condition: the column has one of the values of a JSON array, bound as text. */
  readonly among: (column: string, type: 'text' | 'integer') => string;
  /** A select of the values of a JSON array of names, bound as text, as one column. */
  readonly values: (column: string) => string;
  /** An insert of one row that leaves a row with the same key as it is. `values` are expressions. */
  readonly insertNew: (table: string, key: string, values: Readonly<Record<string, string>>) => string;
  /** Types of the columns in `create table`. */
  readonly types: {
    /** A primary key that counts up and is never given twice. */
    readonly sequence: string;
    readonly integer: string;
    /** Names and ids: compared byte by byte, at most 255 characters. */
    readonly name: string;
    readonly text: string;
  };
  /** The BrokerError for what a statement threw. */
  readonly failure: (error: unknown, id: string, filename: string | undefined) => Error;
}

export const sqliteDialect: Dialect = {
  now: `cast(round(unixepoch('subsec') * 1000) as integer)`,
  begin: 'begin immediate',
  // The whole database is locked by then.
  lock: '',
  skipLocked: '',
  among: (column) => `${column} in (select value from json_each(?))`,
  values: (column) => `select value as ${column} from json_each(?)`,
  insertNew: (table, key, values) =>
    `insert into ${table} (${Object.keys(values).join(', ')}) values (${Object.values(values).join(', ')})
     on conflict (${key}) do nothing`,
  types: {
    sequence: 'integer primary key autoincrement',
    integer: 'integer',
    name: 'text',
    text: 'text',
  },
  failure: sqliteFailure,
};
