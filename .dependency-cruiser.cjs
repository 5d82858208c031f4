// Who may import whom. The contracts are leaves; the core knows no broker; brokers know contracts only.
const leaves =
  '^src/(store|queue-broker|task-log-broker|ledger|record-store|task-status|task-transitions|environment|errors)\\.ts$';
// The package's front door and the composition root behind it.
const frontDoor = '^src/(index|signalbox)\\.ts$';

module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'leaves-import-leaves-only',
      severity: 'error',
      from: { path: leaves },
      to: { path: '^(src|brokers|scripts|test)/', pathNot: leaves },
    },
    {
      name: 'leaves-use-no-library',
      severity: 'error',
      from: { path: leaves },
      to: { dependencyTypes: ['npm', 'npm-dev', 'npm-optional', 'npm-peer'] },
    },
    {
      name: 'core-knows-no-broker',
      severity: 'error',
      from: { path: '^src/', pathNot: frontDoor },
      to: { path: '^(brokers|scripts|test)/' },
    },
    {
      name: 'front-door-knows-no-script',
      severity: 'error',
      from: { path: frontDoor },
      to: { path: '^(scripts|test)/' },
    },
    {
      name: 'nothing-imports-the-front-door',
      severity: 'error',
      from: { path: '^(src|brokers)/' },
      to: { path: '^src/index\\.ts$' },
    },
    {
      name: 'brokers-see-contracts-only',
      severity: 'error',
      from: { path: '^brokers/' },
      to: { path: '^src/', pathNot: leaves },
    },
    {
      name: 'brokers-import-no-script',
      severity: 'error',
      from: { path: '^brokers/' },
      to: { path: '^(scripts|test)/' },
    },
    {
      name: 'brokers-do-not-know-each-other',
      severity: 'error',
      from: { path: '^brokers/([^/.]+)' },
      to: { path: '^brokers/', pathNot: '^brokers/$1' },
    },
    {
      name: 'nothing-imports-scripts',
      severity: 'error',
      from: { path: '^(src|brokers)/' },
      to: { path: '^scripts/' },
    },
    {
      name: 'conformance-sees-contracts-only',
      severity: 'error',
      from: { path: '^test/conformance/' },
      to: { path: '^(src|brokers|scripts|test)/', pathNot: `${leaves}|^test/conformance/` },
    },
    {
      name: 'only-the-container-knows-inversify',
      severity: 'error',
      from: { pathNot: '^src/container\\.ts$|^test/' },
      to: { path: 'node_modules/(inversify|reflect-metadata)/' },
    },
    {
      name: 'only-scripts-know-yargs',
      severity: 'error',
      from: { pathNot: '^scripts/' },
      to: { path: 'node_modules/yargs/' },
    },
    {
      name: 'core-uses-few-libraries',
      severity: 'error',
      from: { path: '^src/' },
      to: {
        dependencyTypes: ['npm', 'npm-optional', 'npm-peer'],
        pathNot: 'node_modules/(inversify|reflect-metadata|pino|zod)/',
      },
    },
    {
      name: 'not-to-dev-dependencies',
      severity: 'error',
      from: { path: '^(src|brokers|scripts)/', pathNot: '^scripts/demo/' },
      to: { dependencyTypes: ['npm-dev'] },
    },
    { name: 'no-orphans', severity: 'error', from: { orphan: true, path: '^(src|brokers)/' }, to: {} },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'types', 'default'] },
  },
};
