import { beforeEach, describe, expect, it } from 'vitest';
import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { Queue } from '../../src/queue.ts';
import { QueueDispatcher } from '../../src/queue-dispatcher.ts';
import type { QueueDispatcherOptions } from '../../src/queue-dispatcher.ts';
import { WeightedSelector } from '../../src/queue-selector.ts';
import type { QueueSelector } from '../../src/queue-selector.ts';
import { AbstractTask, Action, defineTask } from '../../src/task.ts';
import { TaskLog } from '../../src/task-log.ts';
import { failureOf, memoryCore } from '../support/core.ts';
import type { Core, CoreOptions } from '../support/core.ts';

const broker = new InMemoryQueueBroker({ sync: false });
const taskLog = new TaskLog({ broker: new InMemoryTaskLogBroker() });

function queues(...names: string[]): Queue[] {
  return names.map((name) => new Queue(name, broker));
}

function build(options: Partial<QueueDispatcherOptions>): () => QueueDispatcher {
  return () => new QueueDispatcher({ taskLog, ...options } as QueueDispatcherOptions);
}

describe('building a dispatcher', () => {
  it.each([
    ['without the option', {}],
    ['with an empty list', { queues: [] }],
  ])('says that queues must be set: %s', async (_, options) => {
    const error = await failureOf(build(options));
    expect(error.code).toBe('QUEUES_MISSING');
    expect(error.message).toContain('`queues` must be set');
  });

  it('refuses two queues of one name, and names the option', async () => {
    const error = await failureOf(build({ queues: queues('queueA', 'queueA') }));
    expect(error.code).toBe('QUEUE_DUPLICATE');
    expect(error.message).toContain('duplicated queue names: queueA');
    expect(error.message).toContain('`queues`');
  });

  it('refuses names that differ only in case, since some brokers cannot tell them apart', async () => {
    expect((await failureOf(build({ queues: queues('Mail', 'mail') }))).code).toBe('QUEUE_DUPLICATE');
  });

  it('reports duplicated names before unknown associations', async () => {
    const options = { queues: queues('a', 'a'), taskToQueueAssociations: { task: 'nowhere' } };
    expect((await failureOf(build(options))).code).toBe('QUEUE_DUPLICATE');
  });

  it('names all queues at once that associations ask for in vain', async () => {
    const taskToQueueAssociations = { one: 'x', two: 'y', three: 'a', four: 'x' };
    const error = await failureOf(build({ queues: queues('a'), taskToQueueAssociations }));
    expect(error.code).toBe('QUEUE_UNKNOWN');
    expect(error.message).toContain('taskToQueueAssociations');
    expect(error.message).toContain('x, y');
  });

  it('refuses an unknown default queue at once, not at its first use', async () => {
    const error = await failureOf(build({ queues: queues('a'), defaultQueue: 'b' }));
    expect(error.code).toBe('QUEUE_UNKNOWN');
    expect(error.message).toContain('`defaultQueue`');
  });

  it('refuses a selector that cannot deal', async () => {
    const selector = {} as QueueSelector;
    const error = await failureOf(build({ queues: queues('a'), selector }));
    expect(error.code).toBe('SELECTOR_INVALID');
    expect(error.message).toContain('must implement the selector contract');
  });

  it('deals by weight when no selector is given', () => {
    expect(build({ queues: queues('a') })().selector).toBeInstanceOf(WeightedSelector);
  });

  it.each(['', ' ', 'a b', 'a/b', 'ä', 'x'.repeat(65)])('refuses the queue name %j', async (name) => {
    expect((await failureOf(() => new Queue(name, broker))).code).toBe('QUEUE_NAME_INVALID');
  });

  it.each([-1, NaN, Infinity])('refuses the weight %d', async (weight) => {
    expect((await failureOf(() => new Queue('a', broker, weight))).code).toBe('INVALID_ARGUMENT');
  });

  it('gives a queue the weight 1 unless told otherwise', () => {
    expect(new Queue('fakeQueue', broker).weight).toBe(1);
    expect(new Queue('fakeQueue', broker, 23)).toMatchObject({ name: 'fakeQueue', weight: 23 });
  });
});

class SomeImportantAction extends Action<unknown[]> {
  run(): void {}
}

class SomeLessImportantTask extends AbstractTask<{ size?: number }> {
  run(): void {}
}

/** Chooses by what it is told. */
class ChoosyAction extends Action<{ to: string }> {
  readonly seen: unknown[] = [];

  override getQueueName(parameters: { to: string }): string {
    this.seen.push(parameters);
    return parameters.to;
  }

  run(): void {}
}

class ChoosyTask extends AbstractTask<{ to: string }> {
  override getQueueName({ to }: { to: string }): string {
    return to;
  }

  run(): void {}
}

describe('the queue of a task', () => {
  let core: Core;

  function open(options: CoreOptions = {}): Core {
    const queueBroker = new InMemoryQueueBroker({ sync: false });
    const three = ['priority', 'standard', 'background'].map((name) => new Queue(name, queueBroker));
    return memoryCore({ queueBroker, queues: three, ...options });
  }

  /** Where the row says it is, and where its message is. */
  async function placeOf({ id }: { readonly id: string }): Promise<string> {
    const { queue } = await core.taskLog.getById(id);
    expect(await core.queueBroker.count(queue)).toMatchObject({ ready: 1 });
    return queue;
  }

  beforeEach(() => {
    core = open();
  });

  it('is the first one when nothing maps the task and there is no default', async () => {
    expect(await placeOf(await core.dispatcher.enqueue(new SomeLessImportantTask()))).toBe('priority');
  });

  it('is the default queue when nothing maps the task', async () => {
    core = open({ defaultQueue: 'background' });
    expect(await placeOf(await core.dispatcher.enqueue(new SomeLessImportantTask()))).toBe('background');
  });

  it('is the only one when there is only one', async () => {
    core = memoryCore();
    expect(await placeOf(await core.dispatcher.createTask(new SomeImportantAction(), []))).toBe('main');
  });

  it('is the associated one, for actions and for tasks', async () => {
    core = open({
      taskToQueueAssociations: { SomeImportantAction: 'standard', SomeLessImportantTask: 'background' },
    });
    const task = await core.dispatcher.createTask(new SomeImportantAction(), []);
    expect(await placeOf(task)).toBe('standard');
    expect(await placeOf(await core.dispatcher.enqueue(new SomeLessImportantTask()))).toBe('background');
  });

  it('is found by a former name of the task', async () => {
    core = open({ taskToQueueAssociations: { 'old-name': 'standard' } });
    const renamed = defineTask({ name: 'new-name', aliases: ['old-name'], run: () => null });
    expect(await placeOf(await core.dispatcher.enqueue(renamed({})))).toBe('standard');
  });

  it('is the one that the task itself names, whatever it is associated with', async () => {
    core = open({ taskToQueueAssociations: { ChoosyAction: 'standard', ChoosyTask: 'standard' } });
    const task = await core.dispatcher.createTask(new ChoosyAction(), { to: 'background' });
    expect(await placeOf(task)).toBe('background');
    const handle = await core.dispatcher.enqueue(new ChoosyTask({ to: 'priority' }));
    expect(await placeOf(handle)).toBe('priority');
    expect(handle.queue).toBe('priority');
  });

  it('is the one that a defined task names from its parameters', async () => {
    const sized = defineTask({
      name: 'sized',
      queue: ({ size }: { size: number }) => (size > 10 ? 'background' : undefined),
      run: () => null,
    });
    expect(await placeOf(await core.dispatcher.enqueue(sized({ size: 11 })))).toBe('background');
    expect(await placeOf(await core.dispatcher.enqueue(sized({ size: 1 })))).toBe('priority');
  });

  it('is asked of the task with exactly its parameters', async () => {
    const action = new ChoosyAction();
    const parameters = { to: 'standard' };
    await core.dispatcher.createTask(action, parameters);
    expect(action.seen).toEqual([parameters]);
  });

  it('falls back to association and default when the task names none', async () => {
    core = open({ taskToQueueAssociations: { ChoosyAction: 'standard' }, defaultQueue: 'background' });
    expect(await placeOf(await core.dispatcher.createTask(new ChoosyAction(), { to: '' }))).toBe('standard');
    expect(await placeOf(await core.dispatcher.enqueue(new ChoosyTask({ to: '' })))).toBe('background');
  });

  it('is the one that the call names, whatever everybody else says', async () => {
    core = open({ taskToQueueAssociations: { ChoosyTask: 'standard' }, defaultQueue: 'background' });
    const task = new ChoosyTask({ to: 'background' });
    expect(await placeOf(await core.dispatcher.enqueue(task, { queue: 'priority' }))).toBe('priority');
  });

  it.each([
    ['the call', () => core.dispatcher.enqueue(new SomeLessImportantTask(), { queue: 'nope' })],
    ['the task', () => core.dispatcher.enqueue(new ChoosyTask({ to: 'nope' }))],
    ['the action of createTask', () => core.dispatcher.createTask(new ChoosyAction(), { to: 'nope' })],
  ])('is an error, and nothing is stored, when %s names an unknown one', async (_, enqueue) => {
    const error = await failureOf(enqueue);
    expect(error.code).toBe('QUEUE_UNKNOWN');
    expect(error.message).toContain('"nope"');
    expect((await core.taskLog.search()).entries).toEqual([]);
    expect(await core.dispatcher.count()).toBe(0);
  });

  it('is looked up by name; an unknown one is an error that names it', async () => {
    expect(core.dispatcher.getQueue('standard').name).toBe('standard');
    expect(core.dispatcher.hasQueue('standard')).toBe(true);
    expect(core.dispatcher.hasQueue('nope')).toBe(false);
    expect((await failureOf(() => core.dispatcher.getQueue('nope'))).message).toContain('"nope"');
    expect(core.dispatcher.getQueueNames()).toEqual(['priority', 'standard', 'background']);
  });

  it('may be linked later, by class, instance or name; the last link counts', async () => {
    const { dispatcher } = core;
    const fluent = dispatcher
      .linkTaskToQueue(SomeImportantAction, 'priority')
      .linkTaskToQueue(new SomeImportantAction(), 'standard')
      .linkTaskToQueue('SomeLessImportantTask', 'background');
    expect(fluent).toBe(dispatcher);
    expect(dispatcher.getLinkedTasks()).toEqual(
      new Map([
        ['SomeImportantAction', 'standard'],
        ['SomeLessImportantTask', 'background'],
      ]),
    );
    expect(await placeOf(await dispatcher.createTask(new SomeImportantAction(), []))).toBe('standard');
    const error = await failureOf(() => dispatcher.linkTaskToQueue(SomeImportantAction, 'nope'));
    expect(error.code).toBe('QUEUE_UNKNOWN');
  });

  it('decides whether the task runs inside enqueue', async () => {
    const ran: string[] = [];
    const note = defineTask({ name: 'note', run: (_: object, { queue }) => void ran.push(queue) });
    const both = [
      new Queue('now', new InMemoryQueueBroker()),
      new Queue('later', new InMemoryQueueBroker({ sync: false })),
    ];
    core = memoryCore({ queues: both });
    const later = await core.dispatcher.enqueue(note({}), { queue: 'later' });
    expect(ran).toEqual([]);
    expect(await later.status()).toBe('enqueued');
    const now = await core.dispatcher.enqueue(note({}), { queue: 'now' });
    expect(ran).toEqual(['now']);
    expect(await now.status()).toBe('completed');
  });
});
