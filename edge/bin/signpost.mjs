#!/usr/bin/env node
// Entry of `npx signpost`. Sources run as they are, through tsx.
import { register } from 'tsx/esm/api';

register();
await import('../cli/main.ts');
