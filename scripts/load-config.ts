import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, extname, join, resolve } from 'node:path';
import type { PersistenceConfig } from '../src/config/config.ts';
import { checkConfig } from '../src/config/config-check.ts';
import type { CheckedConfig } from '../src/config/config-schema.ts';
import { ConfigurationError, errorMessage } from '../src/errors.ts';
import { importModule } from './import-module.ts';

export interface LoadedConfig {
  /** Checked, the file names of its databases absolute. */
  readonly config: CheckedConfig;
  readonly path: string;
  /** The folder from which its relative paths count. */
  readonly folder: string;
}

const FILE_NAMES = ['js', 'mjs', 'json', 'ts', 'mts'].map((extension) => `signalbox.config.${extension}`);

/**
 * @param named The file that the user asked for; absent: SIGNALBOX_CONFIG, else signalbox.config.* in this folder or the next above.
 * @throws ConfigurationError `CONFIG_NOT_FOUND`, `CONFIG_UNREADABLE` and all of `checkConfig`.
 */
export async function loadConfig(named: string | undefined): Promise<LoadedConfig> {
  const path = configPath(named);
  const config = checkConfig(await exportedBy(path), path);
  const folder = dirname(path);
  return { config: { ...config, persistences: resolveFiles(config.persistences, folder) }, path, folder };
}

function configPath(named: string | undefined): string {
  const fromEnvironment = process.env['SIGNALBOX_CONFIG'];
  if (named !== undefined) return existing(named, '--config');
  return fromEnvironment ? existing(fromEnvironment, 'SIGNALBOX_CONFIG') : nearestFile();
}

function existing(named: string, source: string): string {
  const path = resolve(named);
  if (existsSync(path)) return path;
  throw new ConfigurationError('CONFIG_NOT_FOUND', `${source} names ${path}, and there is no such file.`);
}

function nearestFile(): string {
  for (let folder = process.cwd(); ; folder = dirname(folder)) {
    const name = FILE_NAMES.find((candidate) => existsSync(join(folder, candidate)));
    if (name !== undefined) return join(folder, name);
    if (folder === dirname(folder)) break;
  }
  throw new ConfigurationError(
    'CONFIG_NOT_FOUND',
    `There is no ${FILE_NAMES.join(', ')} in ${process.cwd()} or above it.`,
  );
}

async function exportedBy(path: string): Promise<unknown> {
  if (extname(path) === '.json') return parsed(path);
  const exported = await importModule(path);
  if ('default' in exported) return exported['default'];
  throw new ConfigurationError('CONFIG_INVALID', `${path} has no default export.`, {
    mend: 'End it with `export default defineConfig({ … })`.',
  });
}

async function parsed(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new ConfigurationError('CONFIG_UNREADABLE', `${path} cannot be read: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}

function resolveFiles(
  persistences: Readonly<Record<string, PersistenceConfig>>,
  folder: string,
): Readonly<Record<string, PersistenceConfig>> {
  return Object.fromEntries(
    Object.entries(persistences).map(([name, persistence]) => {
      const { filename } = persistence.connection;
      // SQLite's name for a database in memory is no path.
      const connection = { filename: filename === ':memory:' ? filename : resolve(folder, filename) };
      return [name, { ...persistence, connection }];
    }),
  );
}
