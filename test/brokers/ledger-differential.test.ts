import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import { composeLedger } from '../../src/composed-ledger.ts';
import type { Ledger } from '../../src/ledger.ts';
import type { Command, HistoryOutcome } from '../conformance/history.ts';
import { historyCommands, runHistory } from '../conformance/history.ts';
import { sqliteFile } from '../support/sqlite.ts';

const LOG_TIMES = [
  'claim_until',
  'started_at',
  'not_before',
  'push_at',
  'cancel_requested_at',
  'created_at',
  'updated_at',
  'finished_at',
];

interface Run {
  readonly play: (commands: readonly Command[]) => Promise<HistoryOutcome>;
  readonly remove: () => Promise<void>;
}

/** A SQLite file that is emptied before each history; time passes by making all that is stored older. */
async function openRun(ledgerOf: (broker: RdsQueueBroker, log: RdsTaskLogBroker) => Ledger): Promise<Run> {
  const file = await sqliteFile();
  const persistence = file.open();
  const broker = new RdsQueueBroker(persistence);
  const log = new RdsTaskLogBroker(persistence);
  await broker.initialize([]);
  await log.createContainer();
  const run = (statements: readonly string[]): Promise<void> =>
    persistence.write(undefined, async (session) => {
      for (const statement of statements) await session.run(statement);
    });
  const age = (ms: number): Promise<void> =>
    run([
      `update tq_message set due = due - ${ms}`,
      `update ${log.table} set ${LOG_TIMES.map((time) => `${time} = ${time} - ${ms}`).join(', ')}`,
    ]);
  const ledger = ledgerOf(broker, log);
  return {
    play: async (commands) => {
      await run(['delete from tq_message', `delete from ${log.table}`, `delete from ${log.table}_line`]);
      return runHistory(ledger, log, broker, commands, age);
    },
    remove: file.remove,
  };
}

describe('the ledger of SQLite and the composed one', () => {
  let own: Run;
  let composed: Run;

  beforeAll(async () => {
    own = await openRun((broker, log) => {
      const ledger = broker.ledger(log);
      if (ledger === undefined) throw new Error('Queue and log of one persistence have a ledger');
      return ledger;
    });
    composed = await openRun((broker, log) => composeLedger(broker, log));
  });

  afterAll(async () => {
    await own.remove();
    await composed.remove();
  });

  it('give the same answers and the same rows in any history', async () => {
    await fc.assert(
      fc.asyncProperty(historyCommands(), async (commands) => {
        expect(await own.play(commands)).toEqual(await composed.play(commands));
      }),
      { numRuns: 150 },
    );
  }, 120_000);
});
