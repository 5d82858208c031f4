import { spawnSync } from 'node:child_process';
import { extname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ConfigurationError, errorMessage } from '../src/errors.ts';

/**
 * The exports of a user's file.
 * @throws ConfigurationError `CONFIG_UNREADABLE` with the place where Node.js stopped.
 */
export async function importModule(path: string): Promise<Readonly<Record<string, unknown>>> {
  if (['.ts', '.mts'].includes(extname(path)) && !canImportTypeScript()) {
    throw new ConfigurationError(
      'CONFIG_UNREADABLE',
      `${path}: Node.js ${process.versions.node} cannot load TypeScript.`,
      { mend: 'Compile the file and name the .js file, or use Node.js 22.18 or newer.' },
    );
  }
  try {
    return (await import(pathToFileURL(path).href)) as Record<string, unknown>;
  } catch (error) {
    const where = error instanceof SyntaxError ? syntaxErrorPlace(path) : undefined;
    throw new ConfigurationError(
      'CONFIG_UNREADABLE',
      `${path} cannot be loaded: ${errorMessage(error)}${where === undefined ? '' : ` (${where})`}`,
      { cause: error },
    );
  }
}

function canImportTypeScript(): boolean {
  return Boolean((process.features as { readonly typescript?: unknown }).typescript);
}

/** `import` keeps the line of a syntax error to itself; undefined when it is in a file that this one imports. */
function syntaxErrorPlace(path: string): string | undefined {
  const { stderr } = spawnSync(process.execPath, ['--check', path], { encoding: 'utf8' });
  return /^(?:file:\/\/)?(.+:\d+)$/m.exec(stderr)?.[1];
}
