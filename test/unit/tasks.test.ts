import { describe, expect, expectTypeOf, it } from 'vitest';
import { z } from 'zod';
import { InMemoryQueueBroker } from '../../brokers/memory.ts';
import { Report } from '../../src/report.ts';
import { AbstractTask, Action, CallbackTask, createToken, defineTask } from '../../src/task.ts';
import type { StandardSchema, Task, TaskContext } from '../../src/task.ts';
import type { TaskHandle } from '../../src/task-handle.ts';
import { TaskRegistry } from '../../src/task-registry.ts';
import { Worker } from '../../src/worker/worker.ts';
import { failureOf, memoryCore, recordingLogger } from '../support/core.ts';
import type { Core, RecordingLogger } from '../support/core.ts';

class Shout extends AbstractTask<{ text: string; times?: number }> {
  run(): Report<{ shouted: string }> {
    const shouted = this.parameters.text.toUpperCase().repeat(this.getParameter('times', 1));
    return Report.createSuccess('Shouted', { shouted });
  }
}

class Whisper extends Action<{ text: string }> {
  run({ text }: { text: string }): string {
    return text.toLowerCase();
  }
}

class NoArguments extends AbstractTask<{ uri?: string }> {
  run(): string {
    return this.getParameter('uri', 'none');
  }
}

function sync(logger: RecordingLogger = recordingLogger(), registry = new TaskRegistry()): Core {
  return memoryCore({ queueBroker: new InMemoryQueueBroker(), logger, registry });
}

/** Runs it in a worker, whose process knows only what the registry holds. */
async function throughWorker(task: Task, registry: TaskRegistry): Promise<TaskHandle> {
  const core = memoryCore();
  const handle = await core.dispatcher.enqueue(task);
  const worker = memoryCore({ ...core, registry });
  await new Worker({ dispatcher: worker.dispatcher, stopWhenEmpty: true }).run();
  return handle;
}

describe('a task of its own class', () => {
  it('has an id from its construction on, and no two have the same', () => {
    const [a, b] = [new NoArguments(), new NoArguments()];
    expect(a.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    expect(a.id).not.toBe(b.id);
  });

  it('takes parameters one by one or several at once, and gives them all back', () => {
    const task = new Shout({ text: 'a' });
    expect(task.setParameter('times', 2).setParameter({ text: 'b' })).toBe(task);
    expect(task.parameters).toEqual({ text: 'b', times: 2 });
    expect(task.getParameter('text')).toBe('b');
    expect(new NoArguments().getParameter('uri')).toBeUndefined();
    expect(new NoArguments().getParameter('uri', 'fallback')).toBe('fallback');
  });

  it('keeps its parameters apart from the object they were given in', () => {
    const given = { text: 'a' };
    const task = new Shout(given);
    task.setParameter('text', 'b');
    expect(given).toEqual({ text: 'a' });
  });

  it.each([undefined, null, 1, true])('refuses the key %s', async (key) => {
    const task = new Shout({ text: 'a' });
    expect((await failureOf(() => task.setParameter(key as never, 'x' as never))).code).toBe(
      'INVALID_ARGUMENT',
    );
    expect((await failureOf(() => task.getParameter(key as never))).code).toBe('INVALID_ARGUMENT');
  });

  it('reads as its type and its id', () => {
    const task = new Shout({ text: 'a' });
    expect(String(task)).toBe(`TASK Shout [${task.id}]`);
    const call = new CallbackTask(new Whisper(), { text: 'A' });
    expect(String(call)).toBe(`TASK Whisper [${call.id}]`);
  });

  it('gets in a worker the parameters that it was enqueued with', async () => {
    const registry = new TaskRegistry().register(Shout).register(NoArguments);
    const shout = await throughWorker(new Shout({ text: 'hey', times: 2 }), registry);
    expect(await shout.result()).toEqual({ shouted: 'HEYHEY' });
    const plain = await throughWorker(new NoArguments().setParameter('uri', 'http://a'), registry);
    expect(await plain.result()).toBe('http://a');
  });

  it('needs a name: an anonymous class is refused before anything is stored', async () => {
    const { dispatcher, taskLog } = sync();
    const Anonymous = (() =>
      class extends AbstractTask {
        run(): void {}
      })();
    expect((await failureOf(() => dispatcher.enqueue(new Anonymous()))).code).toBe('TASK_NAME_INVALID');
    expect((await taskLog.search()).entries).toEqual([]);
  });
});

describe('an action', () => {
  it('runs the same code on the same parameters, called directly, in the caller or in a worker', async () => {
    const action = new Whisper();
    expect(action.run({ text: 'ABC' })).toBe('abc');
    const { dispatcher } = sync();
    const task = await dispatcher.createTask(action, { text: 'ABC' });
    expect((await dispatcher.taskLog.getReport(task.id))?.data).toBe('abc');
    const registry = new TaskRegistry().register(Whisper);
    const worked = await throughWorker(new CallbackTask(Whisper, { text: 'ABC' }), registry);
    expect(await worked.result()).toBe('abc');
  });

  it('is called by its task with the parameters and the context, and its answer is given back', () => {
    const seen: unknown[] = [];
    const context = { taskId: 'x' } as TaskContext;
    const call = defineTask({ name: 'call', run: (...given: unknown[]) => seen.push(...given) });
    expect(new CallbackTask(call, { a: 1 }).run(context)).toBe(2);
    expect(seen).toEqual([{ a: 1 }, context]);
  });

  it('knows which task it is running for', async () => {
    const { dispatcher } = sync();
    const whoAmI = defineTask({ name: 'who', run: (_: object, { taskId, taskName }) => [taskId, taskName] });
    const handle = await dispatcher.enqueue(whoAmI({}));
    expect(await handle.result()).toEqual([handle.id, 'who']);
  });

  it.each([
    ['an anonymous function', () => undefined],
    ['an object without a name', { run: () => undefined }],
    ['a string', 'Whisper'],
    ['null', null],
  ])('is not %s', async (_, callable) => {
    const { dispatcher, taskLog } = sync();
    const error = await failureOf(() => dispatcher.createTask(callable as unknown as Whisper, { text: '' }));
    expect(error.code).toBe('TASK_NOT_SERIALISABLE');
    expect((await taskLog.search()).entries).toEqual([]);
  });
});

describe('the types of a defined task', () => {
  const add = defineTask({ name: 'add', run: async ({ a }: { a: number }) => ({ sum: a + 1 }) });
  const { dispatcher } = sync();

  it('flow from the handler to the call and to the result', async () => {
    expectTypeOf(add).parameter(0).toEqualTypeOf<{ a: number }>();
    const handle = await dispatcher.enqueue(add({ a: 1 }));
    expectTypeOf(handle).toEqualTypeOf<TaskHandle<{ sum: number }>>();
    const result = await handle.result();
    expectTypeOf(result).toEqualTypeOf<{ sum: number }>();
    expect(result.sum).toBe(2);
  });

  it('refuse other parameters', () => {
    // @ts-expect-error a string is no number
    add({ a: '1' });
    // @ts-expect-error `a` is missing
    add({});
    // @ts-expect-error `b` is not known
    add({ a: 1, b: 2 });
    // @ts-expect-error `text` is missing
    new Shout();
    // @ts-expect-error there is no parameter `volume`
    new Shout({ text: 'a' }).setParameter('volume', 1);
    // @ts-expect-error a number is no string
    new Shout({ text: 'a' }).setParameter('text', 1);
    // @ts-expect-error the action takes a text
    const wrong = (): unknown => dispatcher.createTask(new Whisper(), { text: 1 });
    expectTypeOf(wrong).returns.toBeUnknown();
  });

  it('make what a report carries the result', async () => {
    const handle = await dispatcher.enqueue(new Shout({ text: 'a' }));
    expectTypeOf(handle).toEqualTypeOf<TaskHandle<{ shouted: string }>>();
    expect(await handle.result()).toEqual({ shouted: 'A' });
  });

  it('take from a validator what goes in and what comes out', () => {
    const schema = z.object({
      at: z.string().transform((text) => new Date(text)),
      times: z.number().default(1),
    });
    const typed = defineTask({
      name: 'typed',
      parameters: schema,
      run: (parameters) => {
        expectTypeOf(parameters).toEqualTypeOf<{ at: Date; times: number }>();
        return parameters.times;
      },
    });
    expectTypeOf(typed).parameter(0).toEqualTypeOf<{ at: string; times?: number | undefined }>();
    // @ts-expect-error the handler's Date is not what the caller gives
    typed({ at: new Date() });
  });
});

/** The least that a validator can be: whole numbers only, in a field `n`. */
const wholeNumber: StandardSchema<{ n: number }, { n: bigint }> = {
  '~standard': {
    version: 1,
    vendor: 'by-hand',
    validate: async (value) => {
      const { n } = value as { n?: unknown };
      if (Number.isInteger(n)) return { value: { n: BigInt(n as number) } };
      return { issues: [{ message: 'is no whole number', path: [{ key: 'n' }] }, { message: 'really' }] };
    },
  },
};

describe('a validator', () => {
  const whole = defineTask({ name: 'whole', parameters: wholeNumber, run: ({ n }) => String(n * 2n) });
  const mail = defineTask({
    name: 'mail',
    parameters: z.object({ to: z.email(), copies: z.number().default(1) }),
    run: ({ to, copies }) => `${copies} to ${to}`,
  });

  it('gives the handler its output', async () => {
    const { dispatcher } = sync();
    expect(await (await dispatcher.enqueue(whole({ n: 21 }))).result()).toBe('42');
    expect(await (await dispatcher.enqueue(mail({ to: 'a@example.org' }))).result()).toBe(
      '1 to a@example.org',
    );
  });

  it('refuses wrong parameters at the call: every issue with its path, and nothing is stored', async () => {
    const { dispatcher, taskLog } = sync();
    const error = await failureOf(() => dispatcher.enqueue(whole({ n: 0.5 })));
    expect(error.code).toBe('PARAMETERS_INVALID');
    expect(error.message).toBe('Parameters of task "whole": n: is no whole number; really');
    const zod = await failureOf(() => dispatcher.createTask(mail, { to: 'nobody' }));
    expect(zod.code).toBe('PARAMETERS_INVALID');
    expect(zod.message).toContain('to:');
    expect((await taskLog.search()).entries).toEqual([]);
  });

  it('is asked again in the worker: what does not match fails at once, whatever the retries', async () => {
    let runs = 0;
    const strict = defineTask({
      name: 'strict',
      retry: { maxAttempts: 5, backoff: 0 },
      parameters: wholeNumber,
      run: () => (runs += 1),
    });
    const lax = defineTask({ name: 'strict', run: (_: object) => null });
    const handle = await throughWorker(lax({ n: 'text' }), new TaskRegistry().register(strict));
    expect(runs).toBe(0);
    expect(await handle.status()).toBe('failed');
    expect(await handle.report()).toMatchObject({ data: { code: 'PARAMETERS_INVALID', attempt: 1 } });
  });
});

describe('what a handler returns', () => {
  async function ended(
    run: () => unknown,
  ): Promise<{ status: string; report: Report; logger: RecordingLogger }> {
    const logger = recordingLogger();
    const { dispatcher, taskLog } = sync(logger);
    const { id } = await dispatcher.enqueue(defineTask({ name: 'answer', run })({}));
    const report = await taskLog.getReport(id);
    if (report === null) throw new Error('no report');
    return { status: await taskLog.getStatus(id), report, logger };
  }

  it.each([[{ a: [1, null, 'x'] }], ['text'], [0], [false], [null]])(
    'becomes the data: %j',
    async (value) => {
      const { status, report } = await ended(() => value);
      expect(status).toBe('completed');
      expect(report).toMatchObject({ type: 'success', data: value });
    },
  );

  it('is missed when it is nothing: a warning in the log, and an info report', async () => {
    const { status, report, logger } = await ended(() => undefined);
    expect(status).toBe('completed');
    expect(report.type).toBe('info');
    const warnings = logger.lines.filter((line) => line.level === 'warn');
    expect(warnings).toHaveLength(1);
    expect(warnings[0]?.message).toContain('returned nothing');
    expect(warnings[0]?.bindings).toMatchObject({ taskName: 'answer', queue: 'main' });
  });

  it.each(['info', 'success', 'warning'] as const)(
    'completes the task as a report of type %s',
    async (type) => {
      const { status, report } = await ended(() => Report.create(type, 'said', { n: 1 }));
      expect(status).toBe('completed');
      expect(report).toMatchObject({ type, message: 'said', data: { n: 1 } });
    },
  );

  it('fails the task as an error report, or as a report with an error anywhere below', async () => {
    expect((await ended(() => Report.createFailure('no'))).status).toBe('failed');
    const deep = Report.createSuccess('root').add(
      Report.createInfo('child').add(Report.createError('grandchild')),
    );
    const { status, report } = await ended(() => deep);
    expect(status).toBe('failed');
    expect(report.type).toBe('success');
    expect(report.containsError()).toBe(true);
  });

  it('keeps the interpolation of the report and of its children', async () => {
    const child = Report.createInfo('{n} rows').withInterpolation({ n: 3 });
    const { report } = await ended(() =>
      Report.createSuccess('{m}').withInterpolation({ m: 'done' }).add(child),
    );
    expect(report.interpolation).toEqual({ m: 'done' });
    expect(report.children[0]?.interpolation).toEqual({ n: 3 });
  });

  it.each([
    ['a BigInt', () => 1n],
    ['a function', () => () => 1],
    ['a cycle', cycle],
    ['a report whose data is no JSON', () => Report.createSuccess('x', { n: 1n })],
  ])('fails the task when it is %s, which no log can keep', async (_, run) => {
    const { status, report } = await ended(run);
    expect(status).toBe('failed');
    expect(report.type).toBe('error');
  });

  it.each([
    ['an error', new RangeError('out'), 'RangeError: out'],
    ['a string', 'out', 'string: out'],
    ['nothing', undefined, 'undefined: undefined'],
    ['an object', { code: 1 }, 'object: {"code":1}'],
  ])('fails the task when it is thrown: %s', async (_, thrown, message) => {
    const { status, report } = await ended(() => {
      throw thrown as Error;
    });
    expect(status).toBe('failed');
    expect(report).toMatchObject({ type: 'error', message, data: { attempt: 1 } });
    expect((await ended(() => Promise.reject(thrown as Error))).report.message).toBe(message);
  });

  it('shows no control characters and no endless text of an error', async () => {
    const { report } = await ended(() => {
      throw new Error(`\u001b[31mred\u0000\n${'x'.repeat(100_000)}`);
    });
    expect(report.message).toMatch(/^Error: +\[31mred x+$/);
    expect(report.message.length).toBeLessThan(2_100);
  });
});

function cycle(): unknown {
  const loop: Record<string, unknown> = {};
  loop['self'] = loop;
  return loop;
}

describe('the registry', () => {
  const first = defineTask({ name: 'first', aliases: ['earlier'], run: () => 1 });

  it('holds a task once, under its name and its aliases', () => {
    const registry = new TaskRegistry().register(first).register(first).register(Shout);
    expect(registry.names).toEqual(['first', 'Shout']);
    expect(registry.find('earlier')).toBe(registry.get('first'));
    expect(registry.find('later')).toBeUndefined();
  });

  it.each([
    ['a name with a name', defineTask({ name: 'first', run: () => 2 })],
    ['a name with an alias', defineTask({ name: 'earlier', run: () => 2 })],
    ['an alias with a name', defineTask({ name: 'other', aliases: ['first'], run: () => 2 })],
    ['an alias with an alias', defineTask({ name: 'other', aliases: ['earlier'], run: () => 2 })],
  ])('refuses another task that shares %s, and keeps nothing of it', async (_, second) => {
    const registry = new TaskRegistry().register(first);
    expect((await failureOf(() => registry.register(second))).code).toBe('TASK_DUPLICATE');
    expect(registry.names).toEqual(['first']);
    expect(registry.find('other')).toBeUndefined();
  });

  it('says which name nobody knows', async () => {
    const error = await failureOf(() => new TaskRegistry().get('nobody'));
    expect(error).toMatchObject({ code: 'TASK_UNKNOWN', place: { taskName: 'nobody' } });
  });

  it('takes a plain function under a name', async () => {
    const registry = new TaskRegistry().registerFunction('double', ({ n }: { n: number }) => n * 2);
    const double = defineTask({ name: 'double', run: ({ n }: { n: number }) => n });
    const handle = await throughWorker(double({ n: 4 }), registry);
    expect(await handle.result()).toBe(8);
  });

  it('runs a message that carries a former name', async () => {
    const before = defineTask({ name: 'earlier', run: () => 0 });
    const handle = await throughWorker(before({}), new TaskRegistry().register(first));
    expect(await handle.result()).toBe(1);
  });

  it('never makes anything of a name that it does not hold', async () => {
    const core = memoryCore();
    const names = ['Shout', 'constructor', '__proto__', 'process', '../../etc/passwd'];
    const task = defineTask({ name: 'real', run: () => 1 });
    await core.dispatcher.enqueue(task({}));
    for (const name of names) {
      const odd = defineTask({ name, run: () => 1 });
      await core.dispatcher.enqueue(odd({}));
    }
    const worker = memoryCore({ ...core, registry: new TaskRegistry().register(task) });
    await new Worker({ dispatcher: worker.dispatcher, stopWhenEmpty: true }).run();
    expect(await core.taskLog.stats()).toMatchObject({ completed: 1, enqueued: names.length });
  });

  it.each(['', 'a\nb', 'x'.repeat(201)])('takes no task named %j', async (name) => {
    expect((await failureOf(() => defineTask({ name, run: () => 1 }))).code).toBe('TASK_NAME_INVALID');
  });
});

describe('a token', () => {
  it('is the same for the same name', () => {
    expect(createToken('a')).toBe(createToken('a'));
    expect(createToken('a')).not.toBe(createToken('b'));
  });
});
