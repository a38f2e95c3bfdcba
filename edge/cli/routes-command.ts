/**
 * `signpost routes lint|test`.
 */
import { Command } from 'commander';
import { parseRulesText } from '../src/rules/parse.ts';
import { parseCases, runCases } from './cases.ts';
import { lintRules } from './lint.ts';
import { readText } from './read-text.ts';

interface RulesFlags {
  readonly regions?: string[];
  readonly json: boolean;
}

const names = (text: string): string[] => text.split(',');

export function lintCommand(): Command {
  return new Command('lint')
    .description('say what is wrong with a rule set, and what in it can never matter; 1 where anything is')
    .argument('<file>', 'routing.yaml')
    .option('--regions <names>', 'the regions there are, by commas; rules that name others are wrong', names)
    .option('--json', 'print the findings as JSON', false)
    .action(async (file: string, { regions, json }: RulesFlags) => {
      const rules = parseRulesText(await readText(file), file, regions);
      const findings = lintRules(rules);
      const lines = findings.map(({ rule, level, message }) => `${level}  rule "${rule}" ${message}`);
      console.log(json ? JSON.stringify(findings) : [...lines, `${rules.rules.length} rules`].join('\n'));
      if (findings.some(({ level }) => level === 'error')) process.exitCode = 1;
    });
}

export function testCommand(): Command {
  return new Command('test')
    .description('decide requests by a rule set, and compare; 1 where one comes to something else')
    .argument('<file>', 'routing.yaml')
    .argument('<cases>', 'YAML list of { name?, request, expect }')
    .option('--json', 'print the results as JSON', false)
    .action(async (file: string, casesFile: string, { json }: RulesFlags) => {
      const rules = parseRulesText(await readText(file), file);
      const results = runCases(rules, parseCases(await readText(casesFile), casesFile));
      const failed = results.filter(({ differences }) => differences.length > 0);
      const lines = results.map(({ name, decision, differences }) =>
        differences.length === 0
          ? `ok    ${name}: ${decision.rule} → ${decision.outcome}`
          : `FAIL  ${name}: ${differences.join('; ')} (passed over: ${decision.passed || 'nothing'})`,
      );
      const summary = `${results.length - failed.length} of ${results.length} as expected`;
      console.log(json ? JSON.stringify(results) : [...lines, summary].join('\n'));
      if (failed.length > 0) process.exitCode = 1;
    });
}
