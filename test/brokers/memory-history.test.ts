import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { composeLedger } from '../../src/composed-ledger.ts';
import type { Clock } from '../../src/environment.ts';
import type { Ledger } from '../../src/ledger.ts';
import type { TaskLogBroker } from '../../src/task-log-broker.ts';
import { historyCommands, runHistory } from '../conformance/history.ts';

const HOUR_MS = 3_600_000;

interface Opened {
  readonly broker: InMemoryQueueBroker;
  readonly log: InMemoryTaskLogBroker;
  readonly ledger: Ledger;
  readonly age: (ms: number) => Promise<void>;
}

function open(): Opened {
  let now = Date.UTC(2026, 0, 1);
  const clock: Clock = { now: () => now, monotonic: () => now, sleep: async () => undefined };
  const broker = new InMemoryQueueBroker({ sync: false, clock });
  const log = new InMemoryTaskLogBroker({ clock });
  const age = async (ms: number): Promise<void> => {
    now += ms;
  };
  return { broker, log, ledger: composeLedger(broker, log), age };
}

/** What workers do that never fail: relay, draw, start, complete, until nothing comes any more. */
async function finishAll({ ledger, broker, age }: Opened): Promise<string[]> {
  const completed: string[] = [];
  for (let round = 0; round < 10; round += 1) {
    await age(300 * HOUR_MS);
    await ledger.relay('one', 100);
    const token = `finish-${round}`;
    const drawn = await ledger.draw('one', {
      max: 100,
      start: 100,
      leaseMs: HOUR_MS,
      waitMs: 0,
      signal: new AbortController().signal,
      worker: 'finisher',
      token,
    });
    const tasks = drawn.flatMap(({ delivery: { id, receipt }, answer }) => {
      return answer.kind === 'claimed' ? [{ id, receipt, token }] : [];
    });
    const orphans = drawn.flatMap(({ delivery, answer }) =>
      answer.kind === 'missing' ? [delivery.receipt] : [],
    );
    await broker.acknowledge('one', orphans);
    await ledger.settle('one', [], tasks);
    const settlements = tasks.map((task) => ({ task, kind: 'completed' as const, report: 'finished' }));
    const { settled } = await ledger.settle('one', settlements, []);
    completed.push(...settled.flatMap(({ id, log }) => (log === 'written' ? [id] : [])));
  }
  return completed;
}

async function idsIn(
  log: TaskLogBroker,
  statuses: readonly ('enqueued' | 'dequeued' | 'running')[],
): Promise<string[]> {
  const { entries } = await log.search({ statuses }, { limit: 100 });
  return entries.map((entry) => entry.id);
}

describe('any history on the in-memory drivers', () => {
  it('has the same outcome each time', async () => {
    await fc.assert(
      fc.asyncProperty(historyCommands(), async (commands) => {
        const outcomes = [];
        for (const { ledger, log, broker, age } of [open(), open()]) {
          outcomes.push(await runHistory(ledger, log, broker, commands, age));
        }
        expect(outcomes[0]).toEqual(outcomes[1]);
      }),
      { numRuns: 200 },
    );
  });

  it('leaves no task behind: what had not ended is run once and completed', async () => {
    await fc.assert(
      fc.asyncProperty(historyCommands(), async (commands) => {
        const opened = open();
        const { ledger, log, broker, age } = opened;
        await runHistory(ledger, log, broker, commands, age);
        const underWay = await idsIn(log, ['enqueued', 'dequeued', 'running']);
        const { entries } = await log.search({ ids: underWay }, { limit: 100 });
        const toCancel = entries.flatMap((entry) => (entry.cancelRequestedAt === null ? [] : [entry.id]));
        const completed = await finishAll(opened);
        expect(completed.toSorted()).toEqual(underWay.filter((id) => !toCancel.includes(id)).toSorted());
        expect(await idsIn(log, ['enqueued', 'dequeued', 'running'])).toEqual([]);
        expect(await broker.count('one')).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
      }),
      { numRuns: 500 },
    );
  });
});
