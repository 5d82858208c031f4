import { existsSync, readFileSync, realpathSync } from 'node:fs';
import module from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import type { Argv } from 'yargs';
import { ERRORS, errorMessage, InvalidArgumentError, isSignalboxError } from '../src/errors.ts';
import type { ErrorCode } from '../src/errors.ts';
import { nearestName } from '../src/config/nearest-name.ts';

/** What the process ends with, of every command. */
export const EXIT = { ok: 0, failed: 1, usage: 2, slotsLost: 75 } as const;

const EXIT_CODES = `Exit codes:
   0  done
   1  failed
   2  wrong use: an option is unknown, missing or contradicts another
  75  the worker lost all its places to handlers that ignore their abort`;

export interface CommandOption {
  readonly describe: string;
  /** What the help calls its value; absent: the option is a switch. */
  readonly value?: string;
}

export interface Command {
  readonly name: string;
  readonly describe: string;
  readonly options: Readonly<Record<string, CommandOption>>;
  /** Options as they are typed, and what they do. */
  readonly examples: readonly (readonly [options: string, describe: string])[];
  /** Resolves with the exit code. */
  run(given: GivenOptions): Promise<number>;
}

const COMMON_OPTIONS: Readonly<Record<string, CommandOption>> = {
  config: {
    describe: 'The configuration file; default: SIGNALBOX_CONFIG, else signalbox.config.* from here upward',
    value: 'PATH',
  },
  'log-level': {
    describe: 'trace, debug, info, warn, error, fatal or silent; from debug on, errors come with their stack',
    value: 'LEVEL',
  },
  json: { describe: 'Results and errors as JSON' },
};

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type CommandLogLevel = (typeof LOG_LEVELS)[number];

/** The command line is wrong: exit code 2. */
export class UsageError extends InvalidArgumentError {
  constructor(message: string, code: ErrorCode = 'USAGE') {
    super(code, message);
  }
}

/** Options of one call, read strictly. */
export class GivenOptions {
  readonly #values: ReadonlyMap<string, unknown>;
  readonly #help: () => Promise<string>;

  constructor(values: ReadonlyMap<string, unknown>, help: () => Promise<string>) {
    this.#values = values;
    this.#help = help;
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  flag(name: string): boolean {
    return this.#values.get(name) === true;
  }

  text(name: string): string | undefined {
    const value = this.#values.get(name);
    return typeof value === 'string' ? value : undefined;
  }

  /** @throws UsageError unless it is a whole number of at least `least`. */
  wholeNumber(name: string, least: number): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const number = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(number) || number < least) {
      throw new UsageError(`--${name} needs a whole number of at least ${least}; got "${text}".`);
    }
    return number;
  }

  get logLevel(): CommandLogLevel | undefined {
    return LOG_LEVELS.find((level) => level === this.text('log-level'));
  }

  /** On standard output: the text, or with --json the value. */
  async print(text: string, value: unknown): Promise<void> {
    await write(process.stdout, this.flag('json') ? escaped(JSON.stringify(value, null, 2)) : text);
  }

  async showHelp(): Promise<void> {
    await write(process.stdout, await this.#help());
  }
}

/**
 * The text with all that could steer a terminal (control characters of both sets, turns of the direction of writing) as
 * `\uXXXX`; lines stay lines. JSON means the same afterwards.
 */
export function escaped(text: string): string {
  const units = (found: string): string =>
    Array.from(
      { length: found.length },
      (_, i) => `\\u${found.charCodeAt(i).toString(16).padStart(4, '0')}`,
    ).join('');
  return text.replace(/(?!\n)\p{C}/gu, units);
}

/** Runs the command when its file is the one that Node.js was started with. */
export async function runIfMain(command: Command, moduleUrl: string): Promise<void> {
  if (!isMain(moduleUrl)) return;
  await endWith(() => runCommand(command, process.argv.slice(2), command.name));
}

export function isMain(moduleUrl: string): boolean {
  const started = process.argv[1];
  // npm links its bins, so the path that was typed is not the path of the file.
  return started !== undefined && realpathSync(started) === fileURLToPath(moduleUrl);
}

/** Ends the process, whatever a task has left open. */
export async function endWith(run: () => Promise<number>): Promise<void> {
  // Node.js 22 and newer; the next start is then faster.
  (module as { enableCompileCache?: () => unknown }).enableCompileCache?.();
  process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
    // Whoever read has seen enough.
    process.exit(code === 'EPIPE' ? EXIT.ok : EXIT.failed);
  });
  process.exit(await run());
}

/** Reads the options, runs the command and prints what went wrong. @param calledAs For the help: with the commands before it. */
export async function runCommand(
  command: Command,
  args: readonly string[],
  calledAs: string,
): Promise<number> {
  try {
    const given = await readOptions(command, args, calledAs);
    return given === undefined ? EXIT.ok : await command.run(given);
  } catch (error) {
    const isDebugging = args.some((arg) => /^(--log-level=)?(debug|trace)$/.test(arg));
    await write(process.stderr, shownError(error, args.includes('--json'), isDebugging));
    return error instanceof UsageError ? EXIT.usage : EXIT.failed;
  }
}

/** Undefined when the help or the version was asked for, and printed. */
async function readOptions(
  command: Command,
  args: readonly string[],
  calledAs: string,
): Promise<GivenOptions | undefined> {
  const options = { ...command.options, ...COMMON_OPTIONS };
  const parser = await describeCommand(command, options, args, calledAs);
  const { _: others, help, version, ...parsed } = await parser.parseAsync();
  if (help === true || version === true) return undefined;
  const values = Object.entries(parsed).filter(([name, value]) => name !== '$0' && value !== undefined);
  const [other] = others;
  if (other !== undefined) throw new UsageError(`${calledAs} takes no argument "${other}", only options.`);
  for (const [name, value] of values) checkOption(name, value, options);
  const given = new GivenOptions(new Map(values), () => parser.getHelp());
  if (given.has('log-level') && given.logLevel === undefined) {
    throw new UsageError(`--log-level is one of ${LOG_LEVELS.join(', ')}; got "${given.text('log-level')}".`);
  }
  return given;
}

async function describeCommand(
  command: Command,
  options: Readonly<Record<string, CommandOption>>,
  args: readonly string[],
  calledAs: string,
): Promise<Argv> {
  const { default: yargs } = await import('yargs');
  const parser = yargs([...args])
    .scriptName(calledAs)
    .usage(`$0 [options]\n\n${command.describe}`)
    .locale('en')
    .updateStrings({ string: 'value', boolean: 'switch' })
    .parserConfiguration({ 'boolean-negation': false, 'camel-case-expansion': false })
    .version(packageVersion())
    .help()
    .epilogue(EXIT_CODES)
    .wrap(Math.min(110, process.stdout.columns ?? 110))
    .exitProcess(false)
    .fail((message: string | null, error: Error | undefined) => {
      throw new UsageError(inOurWords(message ?? error?.message ?? ''));
    });
  for (const [name, { describe, value }] of Object.entries(options)) {
    parser.option(
      name,
      value === undefined ? { type: 'boolean', describe } : { type: 'string', requiresArg: true, describe },
    );
  }
  for (const [typed, describe] of command.examples) parser.example(`$0 ${typed}`.trimEnd(), describe);
  return parser;
}

/** What yargs finds by itself is an option without its value. */
function inOurWords(message: string): string {
  const [, name] = /^Not enough arguments following: (.+)$/.exec(message) ?? [];
  return name === undefined ? message : `--${name} needs a value.`;
}

function checkOption(name: string, value: unknown, options: Readonly<Record<string, CommandOption>>): void {
  const dashed = `${name.length === 1 ? '-' : '--'}${name}`;
  const option = options[name];
  if (option === undefined) {
    const nearest = nearestName(name, Object.keys(options));
    const hint = nearest === undefined ? '' : ` Did you mean --${nearest}?`;
    throw new UsageError(`There is no option ${dashed}.${hint}`);
  }
  if (Array.isArray(value)) throw new UsageError(`${dashed} was given more than once.`);
  if (value === '') throw new UsageError(`${dashed} needs a value: ${dashed}=${option.value ?? ''}.`);
}

function packageVersion(): string {
  let folder = import.meta.dirname;
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string };
  return version;
}

interface Explanation {
  readonly code: string;
  readonly message: string;
  /** What lies behind it, in the words of whoever failed. */
  readonly because: string | undefined;
  readonly cause: string;
  readonly mend: string;
  readonly place: Readonly<Record<string, string>>;
}

function explain(error: unknown): Explanation {
  const message = errorMessage(error);
  const inner = error instanceof Error && error.cause !== undefined ? errorMessage(error.cause) : undefined;
  const because = inner === undefined || message.includes(inner) ? undefined : inner;
  if (!isSignalboxError(error)) {
    const cause = 'Something failed that should not: in Signalbox, in your code, or in a library.';
    const mend = 'See the stack with --log-level=debug.';
    return { code: 'UNEXPECTED', message, because, cause, mend, place: {} };
  }
  const { code, mend, place } = error;
  return { code, message, because, cause: ERRORS[code].cause, mend, place: { ...place } };
}

/** An error as every command shows it. */
export function shownError(error: unknown, asJson: boolean, withStack: boolean): string {
  return escaped(asJson ? errorJson(error, withStack) : errorText(error, withStack));
}

function errorText(error: unknown, withStack: boolean): string {
  const { code, message, because, cause, mend, place } = explain(error);
  const where = Object.entries(place).map(([kind, name]) => `${kind} ${name}`);
  return [
    `error ${code}: ${message}`,
    ...(because === undefined ? [] : [`  because  ${because}`]),
    ...(where.length === 0 ? [] : [`  where    ${where.join(', ')}`]),
    `  cause    ${cause}`,
    `  mend     ${mend}`,
    ...(withStack ? [inspect(error)] : []),
  ].join('\n');
}

function errorJson(error: unknown, withStack: boolean): string {
  const stack = withStack ? inspect(error) : undefined;
  return JSON.stringify({ error: { ...explain(error), stack } }, null, 2);
}

/** Resolves once it is written, so that the process may end. */
async function write(stream: NodeJS.WriteStream, text: string): Promise<void> {
  await new Promise<void>((resolve) => {
    stream.write(`${text}\n`, () => resolve());
  });
}
