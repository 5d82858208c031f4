import { ConfigurationError } from '../../src/errors.ts';
import type { Binding, Row } from './session.ts';

/** The part of `node:sqlite` that is used; `@photostructure/sqlite` has the same shape. */
interface NativeStatement {
  columns(): readonly unknown[];
  all(...bindings: readonly Binding[]): Row[];
  run(...bindings: readonly Binding[]): {
    readonly changes: number | bigint;
    readonly lastInsertRowid: number | bigint;
  };
}

interface NativeDatabase {
  prepare(sql: string): NativeStatement;
  exec(sql: string): void;
  close(): void;
}

interface SqliteModule {
  readonly DatabaseSync: new (filename: string, options: { readonly readOnly: boolean }) => NativeDatabase;
  readonly StatementSync: { readonly prototype: object };
}

export interface SqliteStatement {
  /** Whether it answers rows. */
  readonly reader: boolean;
  all(bindings: readonly Binding[]): Row[];
  run(bindings: readonly Binding[]): { readonly changes: number; readonly lastInsertRowid: number };
}

/** Enough for every statement of ours and for those that a user repeats. */
const MAX_STATEMENTS = 256;

/** A connection in the shape that knex's better-sqlite3 dialect expects. A statement is prepared once and kept. */
export class SqliteConnection {
  readonly #database: NativeDatabase;
  readonly #statements = new Map<string, SqliteStatement>();

  constructor(module: SqliteModule, filename: string, readOnly: boolean) {
    this.#database = new module.DatabaseSync(filename, { readOnly });
  }

  prepare(sql: string): SqliteStatement {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = prepared(this.#database.prepare(sql));
    if (this.#statements.size >= MAX_STATEMENTS) this.#statements.clear();
    this.#statements.set(sql, statement);
    return statement;
  }

  exec(sql: string): void {
    this.#database.exec(sql);
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }
}

function prepared(native: NativeStatement): SqliteStatement {
  return {
    reader: native.columns().length > 0,
    all: (bindings) => native.all(...bindings),
    run: (bindings) => {
      const { changes, lastInsertRowid } = native.run(...bindings);
      return { changes: Number(changes), lastInsertRowid: Number(lastInsertRowid) };
    },
  };
}

let loaded: SqliteModule | undefined;

/**
 * SQLite as Node.js brings it along, else the package `@photostructure/sqlite`.
 * @throws ConfigurationError `DRIVER_MISSING` when there is neither.
 */
export async function loadSqlite(): Promise<SqliteModule> {
  loaded ??= builtinSqlite() ?? (await packagedSqlite());
  return loaded;
}

/** Undefined where Node.js has none, or one that cannot tell which statements answer rows. */
function builtinSqlite(): SqliteModule | undefined {
  const module = quietly(() => process.getBuiltinModule('node:sqlite')) as SqliteModule | undefined;
  return module !== undefined && 'columns' in module.StatementSync.prototype ? module : undefined;
}

/** Node.js warns once when its SQLite is loaded that it is experimental; users can do nothing about it. */
function quietly<T>(work: () => T): T {
  const warnings = Object.getOwnPropertyDescriptor(process, 'emitWarning');
  process.emitWarning = () => undefined;
  try {
    return work();
  } finally {
    if (warnings !== undefined) Object.defineProperty(process, 'emitWarning', warnings);
  }
}

async function packagedSqlite(): Promise<SqliteModule> {
  try {
    return await import('@photostructure/sqlite');
  } catch (cause) {
    throw new ConfigurationError(
      'DRIVER_MISSING',
      `Node.js ${process.versions.node} has no SQLite of its own, and the package @photostructure/sqlite cannot be loaded.`,
      { cause, mend: 'Run `npm install @photostructure/sqlite@1`, or use Node.js 22.16 or newer.' },
    );
  }
}
