import { describe, expect, it } from 'vitest';
import {
  categorizeStatus,
  FINISHED_STATUSES,
  isFinished,
  isTaskStatus,
  mayChange,
  statusesBefore,
  TASK_STATUSES,
  TaskStatus,
} from '../../src/task-status.ts';

describe('the table of statuses', () => {
  it.each([
    ['enqueued', 'dequeued running cancelled archived failed'],
    ['dequeued', 'dequeued running enqueued completed failed child_running cancelled'],
    ['running', 'running dequeued completed failed child_running cancelled enqueued'],
    ['child_running', 'completed failed cancelled'],
    ['failed', 'enqueued archived'],
    ['cancelled', 'enqueued archived'],
    ['completed', 'archived'],
    ['archived', ''],
  ] as const)('lets %s become only: %s', (from, next) => {
    const allowed = TASK_STATUSES.filter((to) => mayChange(from, to));
    expect(allowed.toSorted()).toEqual(next.split(' ').filter(Boolean).toSorted());
  });

  it('lets an operator archive or cancel anything by force, and nothing else', () => {
    for (const from of TASK_STATUSES) {
      for (const to of TASK_STATUSES) {
        const forced = to === 'archived' || to === 'cancelled';
        expect(mayChange(from, to, true)).toBe(forced || mayChange(from, to));
      }
    }
  });

  it('tells from which statuses one may be reached', () => {
    expect(statusesBefore('archived')).toEqual(['enqueued', 'completed', 'failed', 'cancelled']);
    expect(statusesBefore('child_running')).toEqual(['dequeued', 'running']);
    expect(statusesBefore('cancelled', true)).toEqual(TASK_STATUSES);
  });

  it('knows its own words only', () => {
    expect(TASK_STATUSES.every(isTaskStatus)).toBe(true);
    expect(['', 'done', 'toString', '__proto__', null, 3].some(isTaskStatus)).toBe(false);
  });

  it('counts completed, failed, cancelled and archived as finished', () => {
    expect(TASK_STATUSES.filter(isFinished).toSorted()).toEqual([...FINISHED_STATUSES].toSorted());
    expect(isFinished(TaskStatus.CHILD_RUNNING)).toBe(false);
  });
});

describe('what users see of a status', () => {
  it.each([
    ['enqueued', 'created'],
    ['dequeued', 'in_progress'],
    ['running', 'in_progress'],
    ['child_running', 'in_progress'],
    ['completed', 'completed'],
    ['failed', 'failed'],
    ['archived', 'archived'],
    ['cancelled', 'cancelled'],
  ])('shows %s as %s', (status, category) => {
    expect(categorizeStatus(status)).toBe(category);
  });

  it('shows a status that a newer version wrote as failed', () => {
    expect(categorizeStatus('suspended')).toBe('failed');
    expect(categorizeStatus('constructor')).toBe('failed');
  });
});
