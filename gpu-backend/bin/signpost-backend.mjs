#!/usr/bin/env node
// Entry of `npx signpost-backend`. Sources run as they are, through tsx.
import { register } from 'tsx/esm/api';

register();
await import('../src/main.ts');
