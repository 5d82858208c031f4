import { BrokerError } from '../../src/errors.ts';
import type { Dialect } from './dialect.ts';
import { integer, text } from './session.ts';
import type { Session } from './session.ts';

/** What a migration needs of a database. */
interface Database {
  readonly id: string;
  readonly dialect: Dialect;
  read<T>(work: (session: Session) => Promise<T>): Promise<T>;
  write<T>(tx: undefined, work: (session: Session) => Promise<T>): Promise<T>;
}

/**
 * Tables that are created and changed together. Steps are only ever added, and an older program must be able to go on
 * with what a step of the same version leaves behind; anything else needs a new name.
 */
interface Part {
  readonly name: string;
  /** The statements of version 1, 2, … */
  readonly steps: readonly (readonly string[])[];
}

const SCHEMA_TABLE = 'tq_schema';

/** Messages of all queues and small records. */
function queuePart({ types }: Dialect): Part {
  return {
    name: 'queue',
    steps: [
      [
        // state: 0 ready, 1 waiting until `due` (leased when it has a receipt). prio: -priority, smaller first.
        `create table tq_message (
          seq ${types.sequence}, queue ${types.name} not null, state ${types.integer} not null,
          prio ${types.integer} not null, due ${types.integer} not null, task_id ${types.name} not null,
          grp ${types.name}, receipt ${types.name}, receives ${types.integer} not null, body ${types.text} not null,
          generation ${types.integer} not null)`,
        'create index tq_message_ready on tq_message (queue, prio, seq) where state = 0',
        'create index tq_message_due on tq_message (queue, due) where state = 1',
        `create table tq_record (
          space ${types.name} not null, record_key ${types.name} not null, record_value ${types.text} not null,
          version ${types.integer} not null, expires_at ${types.integer}, primary key (space, record_key))`,
        'create index tq_record_expires on tq_record (expires_at) where expires_at is not null',
      ],
    ],
  };
}

/** The rows of one task log and their lines. */
function logPart({ types }: Dialect, table: string): Part {
  return {
    name: table,
    steps: [
      [
        `create table ${table} (
          id ${types.name} not null primary key, queue ${types.name} not null, task_name ${types.name} not null,
          status ${types.name} not null, parent_id ${types.name}, owner ${types.name}, category ${types.name},
          label ${types.text} not null, master_status ${types.integer} not null, priority ${types.integer} not null,
          grp ${types.name}, envelope ${types.text} not null, report ${types.text},
          attempts ${types.integer} not null, lapses ${types.integer} not null, unknowns ${types.integer} not null,
          token ${types.name}, claim_until ${types.integer}, worker ${types.name}, started_at ${types.integer},
          not_before ${types.integer} not null, push_at ${types.integer}, generation ${types.integer} not null,
          cancel_requested_at ${types.integer}, dead_reason ${types.text}, created_at ${types.integer} not null,
          updated_at ${types.integer} not null, finished_at ${types.integer})`,
        `create index ${table}_created on ${table} (created_at, id)`,
        `create index ${table}_status on ${table} (status, created_at, id)`,
        `create index ${table}_owner on ${table} (owner, status, created_at, id) where owner is not null`,
        `create index ${table}_parent on ${table} (parent_id) where parent_id is not null`,
        `create index ${table}_owed on ${table} (queue, push_at) where push_at is not null`,
        `create table ${table}_line (
          seq ${types.sequence}, task_id ${types.name} not null, kind ${types.name} not null,
          at ${types.integer} not null, line ${types.text} not null)`,
        `create index ${table}_line_task on ${table}_line (task_id, seq)`,
      ],
    ],
  };
}

export function migrateQueue(database: Database): Promise<void> {
  return migrate(database, [queuePart(database.dialect)]);
}

/** `table` is part of statements: the caller has checked it. */
export function migrateLog(database: Database, table: string): Promise<void> {
  return migrate(database, [queuePart(database.dialect), logPart(database.dialect, table)]);
}

/** @throws BrokerError `SCHEMA_TOO_NEW` when a newer version of this package has changed the tables. */
export async function checkVersions(session: Session, dialect: Dialect, id: string): Promise<void> {
  for (const [name, version] of await versionsIn(session)) {
    const part = name === 'queue' ? queuePart(dialect) : logPart(dialect, name);
    refuseNewer(part, version, id);
  }
}

/** Safe in many processes at once: the first one holds the write lock, the others find its work done. */
async function migrate(database: Database, parts: readonly Part[]): Promise<void> {
  const { dialect, id } = database;
  const versions = await database.read((session) => versionsIn(session));
  for (const part of parts) refuseNewer(part, versions.get(part.name) ?? 0, id);
  if (parts.every((part) => versions.get(part.name) === part.steps.length)) return;
  await database.write(undefined, async (session) => {
    await session.run(
      `create table if not exists ${SCHEMA_TABLE} (
        part ${dialect.types.name} not null primary key, version ${dialect.types.integer} not null,
        applied_at ${dialect.types.integer} not null)`,
    );
    const current = await versionsIn(session);
    for (const part of parts) await upgrade(session, dialect, part, current.get(part.name) ?? 0, id);
  });
}

async function upgrade(
  session: Session,
  dialect: Dialect,
  part: Part,
  version: number,
  id: string,
): Promise<void> {
  refuseNewer(part, version, id);
  if (version === part.steps.length) return;
  for (const step of part.steps.slice(version)) for (const statement of step) await session.run(statement);
  await session.run(`delete from ${SCHEMA_TABLE} where part = ?`, [part.name]);
  await session.run(`insert into ${SCHEMA_TABLE} (part, version, applied_at) values (?, ?, ${dialect.now})`, [
    part.name,
    part.steps.length,
  ]);
}

async function versionsIn(session: Session): Promise<Map<string, number>> {
  try {
    const rows = await session.all(`select part, version from ${SCHEMA_TABLE}`);
    return new Map(rows.map((row) => [text(row, 'part'), integer(row, 'version')]));
  } catch (error) {
    if (error instanceof BrokerError && error.code === 'NOT_INITIALIZED') return new Map();
    throw error;
  }
}

function refuseNewer(part: Part, version: number, id: string): void {
  const known = part.steps.length;
  if (version <= known) return;
  throw new BrokerError(
    'SCHEMA_TOO_NEW',
    `Database "${id}": its tables "${part.name}" have version ${version}, and this program knows ${known}.`,
    { place: { broker: id } },
  );
}
