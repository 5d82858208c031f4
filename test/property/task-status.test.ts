import fc from 'fast-check';
import { expect, it } from 'vitest';
import { isFinished, mayChange, statusesBefore, TASK_STATUSES } from '../../src/task-status.ts';
import type { TaskStatus } from '../../src/task-status.ts';

const statuses = fc.constantFrom(...TASK_STATUSES);
const wishes = fc.array(fc.record({ to: statuses, force: fc.boolean() }), { maxLength: 60 });

/** What only an operator does to a finished task: send it again, archive it, or cancel it by force. */
function isOperatorsAct(from: TaskStatus, to: TaskStatus, force: boolean): boolean {
  if (to === 'enqueued') return from === 'failed' || from === 'cancelled';
  return to === 'archived' ? force || from !== 'archived' : to === 'cancelled' && force;
}

it('leaves a finished status by no path but an act of an operator', () => {
  fc.assert(
    fc.property(statuses, wishes, (start, path) => {
      let status = start;
      for (const { to, force } of path) {
        if (!mayChange(status, to, force)) continue;
        if (isFinished(status)) expect(isOperatorsAct(status, to, force)).toBe(true);
        status = to;
      }
    }),
    { numRuns: 1_000 },
  );
});

it('lets every unfinished task end, whatever happened to it before', () => {
  const reached = (from: TaskStatus): Set<TaskStatus> => {
    const seen = new Set<TaskStatus>([from]);
    for (const status of seen)
      TASK_STATUSES.filter((to) => mayChange(status, to)).forEach((to) => seen.add(to));
    return seen;
  };
  fc.assert(
    fc.property(statuses, (status) => {
      fc.pre(!isFinished(status));
      const ends = reached(status);
      expect(['completed', 'failed', 'cancelled'].every((end) => ends.has(end as TaskStatus))).toBe(true);
    }),
  );
});

it('asks the same table forwards and backwards', () => {
  fc.assert(
    fc.property(statuses, statuses, fc.boolean(), (from, to, force) => {
      expect(statusesBefore(to, force).includes(from)).toBe(mayChange(from, to, force));
    }),
  );
});
