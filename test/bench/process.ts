import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { createSignalbox } from '../../src/signalbox.ts';
import type { Figures } from './workloads.ts';

const runWorker = fileURLToPath(new URL('../../scripts/run-worker.js', import.meta.url));
const frontDoor = new URL('../../src/index.js', import.meta.url).href;

const IDLE_AFTER_MS = 3_000;

/** A worker as it is started from the command line, on SQLite with a JavaScript configuration. */
export async function workerProcess(folder: string): Promise<Figures[]> {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'signalbox.config.js'), CONFIG);
  writeFileSync(join(folder, 'task.js'), task());
  await enqueueOne(folder);
  return [await startUp(folder), await idleMemory(folder)];
}

async function enqueueOne(folder: string): Promise<void> {
  const { default: config } = (await import(pathToFileURL(join(folder, 'signalbox.config.js')).href)) as {
    default: never;
  };
  const { First } = (await import(pathToFileURL(join(folder, 'task.js')).href)) as { First: new () => never };
  const signalbox = await createSignalbox(config);
  await signalbox.taskLog.createContainer();
  await signalbox.dispatcher.initialize();
  await signalbox.dispatcher.enqueue(new First());
  await signalbox.close();
}

/** From the start of the process to the call of the first handler. */
function startUp(folder: string): Promise<Figures> {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const worker = spawn(process.execPath, [runWorker, '--stop-when-empty', '--log-level=error'], {
      cwd: folder,
    });
    worker.stdout.once('data', () => {
      const value = performance.now() - start;
      resolve({ store: 'sqlite', workload: 'run-worker to first task', unit: 'ms', value });
    });
    worker.once('error', reject);
  });
}

async function idleMemory(folder: string): Promise<Figures> {
  const worker = spawn(process.execPath, [runWorker, '--log-level=error'], { cwd: folder, stdio: 'ignore' });
  await new Promise((resolve) => setTimeout(resolve, IDLE_AFTER_MS));
  const status = readFileSync(`/proc/${worker.pid}/status`, 'utf8');
  worker.kill('SIGTERM');
  await new Promise((resolve) => worker.once('exit', resolve));
  const kibibytes = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]);
  return { store: 'sqlite', workload: 'idle worker', unit: 'MiB resident', value: kibibytes / 1_024 };
}

const CONFIG = `export default {
  persistences: { default: { client: 'sqlite', connection: { filename: new URL('./bench.sqlite', import.meta.url).pathname } } },
  queues: [{ name: 'standard', broker: { type: 'rds', persistence: 'default' } }],
  taskLog: { broker: { type: 'rds', persistence: 'default', container: 'task_log' } },
  tasks: ['./task.js'],
};
`;

function task(): string {
  return `import { AbstractTask } from ${JSON.stringify(frontDoor)};
export class First extends AbstractTask {
  run() {
    console.log('first');
    return null;
  }
}
`;
}
