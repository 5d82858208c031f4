import { InvalidArgumentError } from '../../src/errors.ts';
import type { Page, TaskLogEntry, TaskLogQuery } from '../../src/task-log-broker.ts';

function among<T>(list: readonly T[] | undefined, value: T): boolean {
  return list === undefined || list.includes(value);
}

function same(wanted: string | undefined, value: string | null): boolean {
  return wanted === undefined || wanted === value;
}

export function matches(query: TaskLogQuery, entry: TaskLogEntry): boolean {
  return (
    among(query.ids, entry.id) &&
    among(query.statuses, entry.status) &&
    query.notStatuses?.includes(entry.status) !== true &&
    among(query.taskNames, entry.taskName) &&
    among(query.queues, entry.queue) &&
    same(query.owner, entry.owner) &&
    same(query.parentId, entry.parentId) &&
    same(query.category, entry.category) &&
    entry.createdAt < (query.createdBefore ?? Infinity) &&
    entry.createdAt > (query.createdAfter ?? -Infinity) &&
    (query.finishedBefore === undefined ||
      (entry.finishedAt !== null && entry.finishedAt < query.finishedBefore))
  );
}

type Position = Pick<TaskLogEntry, 'createdAt' | 'id'>;

function older(a: Position, b: Position): boolean {
  return a.createdAt < b.createdAt || (a.createdAt === b.createdAt && a.id < b.id);
}

function position(after: string): Position {
  const parts = /^(\d+)-(.+)$/s.exec(after);
  const [, createdAt, id] = parts ?? [];
  if (createdAt === undefined || id === undefined) {
    throw new InvalidArgumentError(
      'INVALID_ARGUMENT',
      `A page goes on after the "next" of the page before, not after "${after}".`,
    );
  }
  return { createdAt: Number(createdAt), id };
}

/** One page of the entries given, which it may put into another order. */
export function pageOf<Entry extends TaskLogEntry>(
  entries: Entry[],
  page: Page,
): { readonly entries: readonly Entry[]; readonly next?: string } {
  const oldestFirst = page.order === 'oldest';
  const precedes = (a: Position, b: Position): boolean => (oldestFirst ? older(a, b) : older(b, a));
  const from = page.after === undefined ? undefined : position(page.after);
  const rest = from === undefined ? entries : entries.filter((entry) => precedes(from, entry));
  rest.sort((a, b) => (precedes(a, b) ? -1 : 1));
  const start = page.offset ?? 0;
  const chosen = rest.slice(start, start + page.limit);
  const last = chosen.at(-1);
  if (last === undefined || start + page.limit >= rest.length) return { entries: chosen };
  return { entries: chosen, next: `${last.createdAt}-${last.id}` };
}
