import { describe, expect, it } from 'vitest';
import { defineTask } from '../../src/task.ts';
import type { Page } from '../../src/task-log-broker.ts';
import { failureOf, memoryCore } from '../support/core.ts';

const plain = defineTask({ name: 'plain', run: (_: object) => 'done' });

const WRONG: readonly Partial<Page>[] = [Infinity, 1.5, -1, NaN].flatMap((rows) => [
  { limit: rows },
  { offset: rows },
]);

describe('a page of the task log', () => {
  it.each(WRONG)('is refused with %o', async (page) => {
    const { taskLog } = memoryCore();
    const calls = [
      () => taskLog.search({}, page),
      () => taskLog.findAvailable(page),
      () => taskLog.lines('id', page),
    ];
    for (const call of calls) {
      const error = await failureOf(call);
      expect(error.code).toBe('INVALID_ARGUMENT');
      expect(error.message).toContain(`\`${Object.keys(page)[0]}\``);
    }
  });

  it('may be empty, or begin after the last row', async () => {
    const { dispatcher, taskLog } = memoryCore();
    await dispatcher.enqueue(plain({}));
    expect((await taskLog.search({}, { limit: 0 })).entries).toEqual([]);
    expect(await taskLog.findAvailable({ limit: 10, offset: 1 })).toEqual([]);
    expect(await taskLog.findAvailable({ limit: 10, offset: 0 })).toHaveLength(1);
  });
});
