#!/usr/bin/env node
import { nearestName } from '../src/config/nearest-name.ts';
import { endWith, EXIT, isMain, runCommand, UsageError } from './command-line.ts';
import type { Command } from './command-line.ts';

/** Loaded when called: a worker need not wait for the others. */
const COMMANDS: Readonly<
  Record<string, { readonly summary: string; readonly load: () => Promise<Command> }>
> = {
  'initialize-queue': {
    summary: 'create what the queues and the task log need',
    load: async () => (await import('./initialize-queue.ts')).initializeQueue,
  },
  'run-worker': {
    summary: 'run the tasks of the queues',
    load: async () => (await import('./run-worker.ts')).runWorker,
  },
  'task-log': {
    summary: 'show, archive and cancel tasks',
    load: async () => (await import('./task-log.ts')).taskLog,
  },
};

/** Runs the command that the arguments name. */
async function runSignalbox(args: readonly string[]): Promise<number> {
  const isCommand = (arg: string): boolean => Object.hasOwn(COMMANDS, arg);
  const at = args.some(isCommand) ? args.findIndex(isCommand) : args.findIndex((arg) => !arg.startsWith('-'));
  const name = args[at];
  const others = args.filter((_, i) => i !== at);
  const command = name !== undefined && isCommand(name) ? COMMANDS[name] : undefined;
  if (command !== undefined) return runCommand(await command.load(), others, `signalbox ${name}`);
  return runCommand(overview(name), others, 'signalbox');
}

function overview(unknown: string | undefined): Command {
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(18)}${summary}`);
  return {
    name: 'signalbox',
    describe: `Commands, each with a --help of its own:\n${lines.join('\n')}`,
    options: {},
    examples: Object.keys(COMMANDS).map((name) => [`${name} --help`, `what ${name} can do`] as const),
    async run(given) {
      if (unknown === undefined) {
        await given.showHelp();
        return EXIT.ok;
      }
      const nearest = nearestName(unknown, Object.keys(COMMANDS));
      const hint = nearest === undefined ? '' : ` Did you mean ${nearest}?`;
      throw new UsageError(
        `There is no command "${unknown}"; there are ${Object.keys(COMMANDS).join(', ')}.${hint}`,
      );
    },
  };
}

if (isMain(import.meta.url)) await endWith(() => runSignalbox(process.argv.slice(2)));
