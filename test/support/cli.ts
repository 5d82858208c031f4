import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createSignalbox } from '../../src/signalbox.ts';
import type { Signalbox } from '../../src/signalbox.ts';
import { CallbackTask } from '../../src/task.ts';
import type { TaskDefinition } from '../../src/task.ts';

const ROOT = resolve(import.meta.dirname, '..', '..');

/** What a file of a test project imports as the package. */
export const PACKAGE_URL: string = pathToFileURL(join(ROOT, 'dist', 'src', 'index.js')).href;

export type CommandName = 'signalbox' | 'initialize-queue' | 'run-worker' | 'task-log';

export interface CommandEnd {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningCommand {
  readonly ended: Promise<CommandEnd>;
  kill(signal: NodeJS.Signals): void;
  /** Resolves once standard error holds the text; rejects when the command ends before. */
  said(text: string): Promise<void>;
}

export interface CommandOptions {
  /** A folder of the project; default its root. */
  readonly folder?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** A user's project in a temporary folder, and the compiled commands run in it. */
export class TestProject {
  readonly folder: string;
  readonly #running = new Set<RunningCommand>();

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async create(files: Readonly<Record<string, string>> = {}): Promise<TestProject> {
    if (!existsSync(join(ROOT, 'dist', 'scripts', 'cli.js'))) {
      throw new Error('The commands are not compiled: run `npm run build` first.');
    }
    const project = new TestProject(await realpath(await mkdtemp(join(tmpdir(), 'signalbox-cli-'))));
    await project.write({ 'package.json': '{ "type": "module" }', ...files });
    return project;
  }

  async write(files: Readonly<Record<string, string>>): Promise<void> {
    for (const [name, content] of Object.entries(files)) {
      const path = join(this.folder, name);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, content);
    }
  }

  run(name: CommandName, args: readonly string[] = [], options: CommandOptions = {}): Promise<CommandEnd> {
    return this.start(name, args, options).ended;
  }

  start(name: CommandName, args: readonly string[] = [], options: CommandOptions = {}): RunningCommand {
    const command = startCommand(name, args, join(this.folder, options.folder ?? ''), options.env ?? {});
    this.#running.add(command);
    void command.ended.finally(() => this.#running.delete(command));
    return command;
  }

  async remove(): Promise<void> {
    for (const command of this.#running) command.kill('SIGKILL');
    await Promise.all([...this.#running].map((command) => command.ended));
    await rm(this.folder, { recursive: true, force: true });
  }
}

function startCommand(
  name: CommandName,
  args: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>>,
): RunningCommand {
  const file = join(ROOT, 'dist', 'scripts', `${name === 'signalbox' ? 'cli' : name}.js`);
  const inherited = { ...process.env };
  delete inherited['SIGNALBOX_CONFIG'];
  const child = spawn(process.execPath, [file, ...args], { cwd, env: { ...inherited, ...env } });
  let stdout = '';
  let stderr = '';
  const listeners = new Set<() => void>();
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    for (const listener of listeners) listener();
  });
  const ended = new Promise<CommandEnd>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (exitCode) => resolve({ exitCode, stdout, stderr }));
  });
  return {
    ended,
    kill: (signal) => void child.kill(signal),
    said: (text) =>
      new Promise((resolve, reject) => {
        const listener = (): void => {
          if (!stderr.includes(text)) return;
          listeners.delete(listener);
          resolve();
        };
        listeners.add(listener);
        void ended.then(() => reject(new Error(`It ended without saying "${text}":\n${stderr}`)), reject);
        listener();
      }),
  };
}

/** A queue on a database and one in memory. Tasks fail, sleep until they are aborted, or ignore their abort. */
export async function createQueueProject(): Promise<TestProject> {
  return TestProject.create({
    'signalbox.config.js': `
      import { defineConfig } from '${PACKAGE_URL}';
      export default defineConfig({
        persistences: { default: { client: 'sqlite', connection: { filename: 'queue.sqlite' } } },
        queues: [
          { name: 'standard', broker: { type: 'rds', persistence: 'default' } },
          { name: 'local', broker: { type: 'memory' } },
        ],
        taskLog: { broker: { type: 'rds', persistence: 'default' } },
        tasks: ['./tasks/*.js'],
        worker: { abortGraceMs: 100 },
      });`,
    'tasks/all.js': `
      import { defineTask } from '${PACKAGE_URL}';
      export const hello = defineTask({ name: 'hello', run: ({ name }) => ({ greeting: 'Hello ' + name }) });
      export const failing = defineTask({ name: 'failing', run: () => { throw new Error('No paper'); } });
      export const patient = defineTask({
        name: 'patient',
        run: (_, { signal }) => new Promise((resolve) => signal.addEventListener('abort', () => resolve({}))),
      });
      export const short = defineTask({
        name: 'short',
        run: () => new Promise((resolve) => setTimeout(() => resolve({}), 500)),
      });
      export const stubborn = defineTask({
        name: 'stubborn',
        timeoutMs: 50,
        run: () => new Promise((resolve) => setTimeout(resolve, 60_000)),
      });`,
  });
}

/** The same queue, seen from the test. */
export function openQueueProject(project: TestProject): Promise<Signalbox> {
  return createSignalbox({
    persistences: {
      default: { client: 'sqlite', connection: { filename: join(project.folder, 'queue.sqlite') } },
    },
    queues: [{ name: 'standard', broker: { type: 'rds', persistence: 'default' } }],
    taskLog: { broker: { type: 'rds', persistence: 'default' } },
  });
}

/** Enqueues a task that only the project's worker can run; resolves with its id. */
export async function enqueueNamed(
  { dispatcher }: Signalbox,
  name: string,
  parameters: Readonly<Record<string, string>> = {},
  label = '',
): Promise<string> {
  const definition: TaskDefinition = dispatcher.registry.find(name) ?? {
    name,
    aliases: [],
    options: {},
    schema: undefined,
    source: name,
    getQueueName: () => undefined,
    run: () => null,
  };
  const { id } = await dispatcher.enqueue(new CallbackTask(definition, parameters), label);
  return id;
}
