// A copy of a WebAssembly module in which one exported function traps: how a crash is tested.

/** @param {Uint8Array} bytes */
function reader(bytes) {
  let at = 8; // After magic and version.
  return {
    get at() {
      return at;
    },
    set at(value) {
      at = value;
    },
    get done() {
      return at >= bytes.length;
    },
    byte: () => bytes[at++],
    u32() {
      let value = 0;
      for (let shift = 0; ; shift += 7) {
        const byte = bytes[at++];
        value |= (byte & 0x7f) << shift;
        if (!(byte & 0x80)) return value >>> 0;
      }
    },
    name() {
      const length = this.u32();
      at += length;
      return new TextDecoder().decode(bytes.subarray(at - length, at));
    },
  };
}

/** @param {number} value */
function u32(value) {
  const bytes = [];
  do {
    bytes.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    value >>>= 7;
  } while (value);
  return bytes;
}

/**
 * @param {Uint8Array} bytes the module
 * @param {string} name an exported function
 * @returns {Uint8Array} the same module, whose function is `(unreachable)`
 */
export function withTrap(bytes, name) {
  const imports = WebAssembly.Module.imports(new WebAssembly.Module(bytes)).filter((one) => one.kind === "function");
  const read = reader(bytes);
  let index;
  while (!read.done) {
    const start = read.at;
    const id = read.byte();
    const size = read.u32();
    const end = read.at + size;
    if (id === 7) {
      for (let left = read.u32(); left > 0; left -= 1) {
        const exported = read.name();
        const kind = read.byte();
        const target = read.u32();
        if (kind === 0 && exported === name) index = target - imports.length;
      }
    } else if (id === 10) {
      const count = read.u32();
      const bodies = read.at;
      for (let body = 0; body < count; body += 1) {
        const from = read.at;
        const to = read.u32() + read.at;
        if (body === index) {
          const trap = [3, 0 /* no locals */, 0x00 /* unreachable */, 0x0b /* end */];
          const content = [u32(count), bytes.subarray(bodies, from), trap, bytes.subarray(to, end)];
          const length = content.reduce((sum, part) => sum + part.length, 0);
          return Buffer.concat(
            [bytes.subarray(0, start), [10], u32(length), ...content, bytes.subarray(end)].map((part) => Buffer.from(part)),
          );
        }
        read.at = to;
      }
    }
    read.at = end;
  }
  throw new Error(`the module exports no function ${name}`);
}
