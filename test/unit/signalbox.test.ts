import { afterEach, describe, expect, it } from 'vitest';
import type { SignalboxConfig } from '../../src/config/config.ts';
import type { Container } from '../../src/container.ts';
import { isSignalboxError } from '../../src/errors.ts';
import { createSignalbox, TOKENS } from '../../src/signalbox.ts';
import type { Signalbox, SignalboxOptions } from '../../src/signalbox.ts';
import { createToken, defineTask } from '../../src/task.ts';
import type { Token } from '../../src/task.ts';
import { sqliteFile } from '../support/sqlite.ts';

interface Mailer {
  readonly sender: string;
  send(text: string): string;
}

const MAILER = createToken<Mailer>('test.mailer');
const SENDER = createToken<string>('test.sender');

const inMemory: SignalboxConfig = { queues: [{ name: 'queue', broker: { type: 'memory' } }] };
const opened: Signalbox[] = [];

async function open(config = inMemory, options: SignalboxOptions = {}): Promise<Signalbox> {
  const signalbox = await createSignalbox(config, options);
  opened.push(signalbox);
  return signalbox;
}

afterEach(async () => {
  for (const signalbox of opened.splice(0)) await signalbox.close();
});

let asked = 0;

/** What `context.get` answers inside a task; sync queues run it at once. */
async function askInATask(
  signalbox: Signalbox,
  ask: (get: <T>(token: Token<T>) => T) => unknown,
): Promise<void> {
  const task = defineTask({
    name: `asking-${(asked += 1)}`,
    run: (_: object, context) => {
      ask((token) => context.get(token));
      return 'asked';
    },
  });
  await (await signalbox.dispatcher.enqueue(task({}))).result();
}

describe('createSignalbox', () => {
  it('refuses a configuration that is wrong', async () => {
    const error: unknown = await createSignalbox({ queues: [] }).catch((reason: unknown) => reason);

    expect(isSignalboxError(error) && error.code).toBe('QUEUES_MISSING');
  });

  it('wires queues, weights, default queue and associations', async () => {
    const { dispatcher } = await open({
      queues: [
        { name: 'one', weight: 3, broker: { type: 'memory' } },
        { name: 'two', broker: { type: 'memory', sync: false, receive: '-7' } },
      ],
      defaultQueue: 'two',
      taskToQueueAssociations: { linked: 'one' },
    });
    const linked = defineTask({ name: 'linked', run: () => null });
    const other = defineTask({ name: 'other', run: () => null });

    expect(dispatcher.queues.map(({ name, weight }) => [name, weight])).toEqual([
      ['one', 3],
      ['two', 1],
    ]);
    expect(dispatcher.getQueue('two').broker).toMatchObject({
      receiveLimit: 7,
      capabilities: { sync: false },
    });
    expect((await dispatcher.enqueue(linked({}))).queue).toBe('one');
    expect((await dispatcher.enqueue(other({}))).queue).toBe('two');
  });

  it('lets queues with the same settings share a broker, so that one question serves them all', async () => {
    const file = await sqliteFile();
    const broker = { type: 'rds', persistence: 'default' } as const;
    const { dispatcher } = await open({
      persistences: { default: { client: 'sqlite', connection: { filename: file.filename } } },
      queues: [
        { name: 'one', broker },
        { name: 'two', broker },
        { name: 'three', broker: { ...broker, receive: 5 } },
      ],
      taskLog: { broker },
    });
    const [one, two, three] = dispatcher.queues.map((queue) => queue.broker);

    expect(two).toBe(one);
    expect(three).not.toBe(one);
    expect(three?.store).toBe(one?.store);
    await file.remove();
  });

  it('makes workers with the settings of the configuration, unless the call says otherwise', async () => {
    const signalbox = await open({
      queues: [{ name: 'queue', broker: { type: 'memory', sync: false } }],
      worker: { concurrency: 2, pollIntervalMs: 10 },
    });
    let running = 0;
    let most = 0;
    const task = defineTask({
      name: 'counting',
      run: async () => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 10));
        running -= 1;
        return 'counted';
      },
    });
    for (let i = 0; i < 6; i += 1) await signalbox.dispatcher.enqueue(task({}));
    await signalbox.createWorker({ stopWhenEmpty: true }).run();
    expect(most).toBe(2);

    most = 0;
    for (let i = 0; i < 3; i += 1) await signalbox.dispatcher.enqueue(task({}));
    await signalbox.createWorker({ stopWhenEmpty: true, concurrency: 1 }).run();
    expect(most).toBe(1);
  });

  it('is of no use after it was closed', async () => {
    const signalbox = await createSignalbox(inMemory);
    await signalbox.close();

    await expect(signalbox.dispatcher.count()).rejects.toMatchObject({ code: 'BROKER_CLOSED' });
  });
});

describe('context.get', () => {
  it('finds the parts of the Signalbox', async () => {
    const signalbox = await open();
    const found: unknown[] = [];

    await askInATask(signalbox, (get) => found.push(get(TOKENS.dispatcher), get(TOKENS.taskLog)));

    expect(found[0]).toBe(signalbox.dispatcher);
    expect(found[1]).toBe(signalbox.taskLog);
  });

  it('finds services of yours, made once', async () => {
    let made = 0;
    const signalbox = await open(inMemory, {
      bindings: (bind) => {
        bind(SENDER).toConstant('me@example.org');
        bind(MAILER).toFactory((get) => {
          made += 1;
          const sender = get(SENDER);
          return { sender, send: (text) => `${sender}: ${text}` };
        });
      },
    });
    const sent: string[] = [];

    expect(made).toBe(0);
    for (const text of ['one', 'two']) {
      await askInATask(signalbox, (get) => sent.push(get(MAILER).send(text)));
    }

    expect(sent).toEqual(['me@example.org: one', 'me@example.org: two']);
    expect(made).toBe(1);
  });

  it('says what is not bound', async () => {
    const signalbox = await open();
    let code: unknown;

    await askInATask(signalbox, (get) => {
      try {
        get(MAILER);
      } catch (error) {
        code = isSignalboxError(error) ? error.code : error;
      }
    });

    expect(code).toBe('SERVICE_UNKNOWN');
  });
});

describe('the container', () => {
  it('holds parts and services, and is always the same one', async () => {
    const signalbox = await open(inMemory, { bindings: (bind) => bind(SENDER).toConstant('me@example.org') });
    const container: Container = await signalbox.container();

    expect(container.get(TOKENS.taskLog)).toBe(signalbox.taskLog);
    expect(container.get(SENDER)).toBe('me@example.org');
    expect(await signalbox.container()).toBe(container);
  });

  it('can be asked for without services of yours', async () => {
    const signalbox = await open();
    const container = await signalbox.container();

    container.bind(SENDER).toConstantValue('bound later');
    const found: string[] = [];
    await askInATask(signalbox, (get) => found.push(get(SENDER)));

    expect(container.get(TOKENS.registry)).toBe(signalbox.registry);
    expect(found).toEqual(['bound later']);
  });
});
