-- LuaJIT's traces: recorded, compiled, joined by patched exits, given up and overwritten.
local bit, ffi = require("bit"), require("ffi")
assert(jit.status(), "the JIT is off")
local compiled, aborted, flushed = 0, 0, 0
jit.attach(function(what)
    if what == "stop" then compiled = compiled + 1 end
    if what == "abort" then aborted = aborted + 1 end
    if what == "flush" then flushed = flushed + 1 end
end, "trace")
-- Little room for machine code: it is filled, and then all of it is given up, again and again.
jit.opt.start("hotloop=10", "hotexit=4", "sizemcode=64", "maxmcode=128", "maxtrace=400")

-- Branches that become hot one by one: each exit is patched to lead to a trace of its own.
local function branches(n, phases)
    local sum = 0
    for phase = 1, phases do
        for i = 1, n do
            local k = i % phase
            if k == 0 then sum = sum + i
            elseif k == 1 then sum = sum - phase
            elseif k == 2 then sum = bit.bxor(sum, i)
            elseif k == 3 then sum = bit.band(sum + 3 * i, 0xffffff)
            else sum = sum + k end
        end
    end
    return sum
end

-- Types change under a trace.
local function types(n)
    local values = {}
    for i = 1, n do
        if i <= n / 4 then values[i] = i
        elseif i <= n / 2 then values[i] = i + 0.25
        elseif i <= 3 * n / 4 then values[i] = tostring(i)
        else values[i] = i * 65536 end
    end
    local sum = 0
    for _ = 1, 20 do
        for i = 1, n do sum = sum + values[i] end
    end
    return sum
end

-- Much code, each piece hot for a moment only.
local function generated(count)
    local sum = 0
    for i = 0, count - 1 do
        local source = ("local s = %d for k = 0, 499 do s = bit.tobit(s * 31 + k + %d) end return s"):format(i, i)
        sum = bit.tobit(sum + assert(loadstring("local bit = ... " .. source))(bit))
        if i % 100 == 99 then jit.flush() end
    end
    return sum
end

-- Calls from C to Lua go through machine code of their own, and must not come out of a trace.
local function callbacks()
    ffi.cdef("void qsort(void *base, size_t count, size_t size, int (*compare)(const int32_t *, const int32_t *));")
    local n = 2000
    local sum = 0
    for round = 1, 5 do
        local numbers = ffi.new("int32_t[?]", n)
        local state = round
        for i = 0, n - 1 do
            state = bit.band(state * 1103 + 12345, 0xffff)
            numbers[i] = state
        end
        local compare = ffi.cast("int (*)(const int32_t *, const int32_t *)", function(a, b) return a[0] - b[0] end)
        ffi.C.qsort(numbers, n, 4, compare)
        compare:free()
        for i = 0, n - 1 do sum = bit.tobit(sum * 31 + numbers[i]) end
    end
    return sum
end
jit.off(callbacks)

print("branches", branches(100000, 12))
print("types", ("%.2f"):format(types(20000)))
print("generated", generated(3000))
print("callbacks", callbacks())
io.stderr:write(("traces compiled %d, aborted %d; flushes %d\n"):format(compiled, aborted, flushed))
assert(compiled >= 1000 and flushed >= 30, "too little was compiled or given up")
