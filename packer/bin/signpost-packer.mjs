#!/usr/bin/env node
// Entry of `npx signpost-packer`. Sources run as they are, through tsx.
import { register } from 'tsx/esm/api';

register();
await import('../src/cli.ts');
