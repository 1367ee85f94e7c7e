// V8's tiers and what invalidates their code. Run by `node --allow-natives-syntax --expose-gc --flush-baseline-code`.
"use strict";
const assert = require("assert");
const { Worker, isMainThread, parentPort } = require("worker_threads");

// kOptimized in V8's src/runtime/runtime.h.
const isOptimized = f => (%GetOptimizationStatus(f) & 16) !== 0;

// Calls until the compiler's thread has installed its code. The caller is not optimised: it could have taken the function
// in, which then runs no more, and stays as it is.
function heat(f, call) {
    %NeverOptimizeFunction(call);
    for (let round = 0; round < 10000 && !isOptimized(f); round++) {
        for (let i = 0; i < 1000; i++) call(i);
    }
    assert(isOptimized(f), `${f.name} was not optimised`);
}

// Each kind of argument breaks what the code was compiled for: its code is given up and compiled anew.
function deoptimized() {
    const results = [];
    let givenUp = 0;
    for (let round = 0; round < 20; round++) {
        // With a feedback of its own.
        const add = new Function("a", "b", `return a + b + ${round};`);
        const kinds = [i => i, i => i + 0.5, i => `${i}`, i => ({ valueOf: () => i })];
        for (const kind of kinds) {
            const was = isOptimized(add);
            results.push(add(kind(round), kind(7)));
            if (was && !isOptimized(add)) givenUp++;
            heat(add, i => add(kind(i), kind(7)));
        }
    }
    assert(givenUp >= 20, `${givenUp} functions were given up`);
    return results.join(" ");
}

// Shapes of objects: inline caches that are patched from monomorphic to megamorphic.
function shapes() {
    const get = object => object.value;
    let sum = 0;
    for (let extra = 0; extra < 12; extra++) {
        const object = {};
        for (let i = 0; i < extra; i++) object[`before${i}`] = i;
        object.value = extra + 1;
        for (let i = 0; i < 20000; i++) sum += get(object);
    }
    return sum;
}

// Much code, each piece hot for a moment only, and moved or dropped by the collector.
function generated() {
    let sum = 0;
    for (let i = 0; i < 400; i++) {
        const f = new Function("n", `let s = ${i}; for (let k = 0; k < n; k++) s = (s * 31 + k + ${i}) | 0; return s;`);
        sum = (sum + f(5000)) | 0;
        if (i % 40 === 39) gc();
    }
    return sum;
}

// An XORSHIFT in WebAssembly, once for each constant: the first tier's code is replaced while its loop runs.
function wasm() {
    const leb = n => n < 128 ? [n] : [n & 127 | 128, n >> 7];
    const section = (id, body) => [id, ...leb(body.length), ...body];
    let sum = 0;
    for (let constant = 1; constant <= 12; constant++) {
        const xor_shift = (opcode, bits) => [0x20, 1, 0x20, 1, 0x41, bits, opcode, 0x73, 0x21, 1];
        const code = [1, 1, 0x7f,                                     // a local: i32 state
            0x41, constant, 0x21, 1,                                  // state = constant
            0x03, 0x40,                                               // loop
            ...xor_shift(0x74, 13), ...xor_shift(0x76, 17), ...xor_shift(0x74, 5),
            0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0,                 // if (--n) continue
            0x0b, 0x20, 1, 0x0b];
        const bytes = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
            ...section(1, [1, 0x60, 1, 0x7f, 1, 0x7f]), ...section(3, [1, 0]), ...section(7, [1, 1, 0x66, 0, 0]),
            ...section(10, [1, ...leb(code.length), ...code])];
        const { f } = new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(bytes))).exports;
        for (let call = 0; call < 20; call++) sum = (sum + f(10000 + call)) | 0;
    }
    return sum;
}

// Regular expressions are compiled, too.
function expressions() {
    const text = Array.from({ length: 20000 }, (_, i) => `k${i}=${i * i % 977};`).join("");
    let sum = 0;
    for (const match of text.matchAll(/k(\d+)=(\d+);/g)) sum += match[1] * match[2];
    return sum;
}

// Isolates of other threads patch their code while this one runs.
function workers() {
    const all = [0, 1].map(() => new Promise((resolve, reject) => {
        const worker = new Worker(__filename, { execArgv: [] });
        worker.on("message", resolve);
        worker.on("error", reject);
    }));
    return Promise.all(all);
}

if (isMainThread) {
    (async () => {
        const others = workers();
        console.log("deoptimized", deoptimized());
        console.log("shapes", shapes());
        console.log("generated", generated());
        console.log("wasm", wasm());
        console.log("expressions", expressions());
        console.log("workers", (await others).join(" "));
    })();
} else {
    parentPort.postMessage((generated() + wasm()) | 0);
}
