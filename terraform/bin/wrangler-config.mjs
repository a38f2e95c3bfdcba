#!/usr/bin/env node
// Entry of the bridge from Terraform to wrangler. Sources run as they are, through tsx.
import { register } from 'tsx/esm/api';

register();
await import('../src/wrangler/cli.ts');
