-- What LuaJIT compiles well (floating point, tables, FFI structures) and what it does not (patterns, sorting,
-- coroutines).
local scale = 40 / tonumber(os.getenv("BENCHMARK_DIVISOR") or 1)
local ffi, bit = require("ffi"), require("bit")

local state = 12345
local function random()
    state = (state * 1103 + 12345) % 65536
    return state
end

-- A wave on a grid.
local function wave()
    local n = 128
    local now, before = {}, {}
    for i = 1, n * n do now[i], before[i] = 0, 0 end
    now[n * n / 2 + n / 2] = 1000
    for _ = 1, 5 * scale do
        for y = 1, n - 2 do
            for x = 2, n - 1 do
                local i = y * n + x
                before[i] = (now[i - 1] + now[i + 1] + now[i - n] + now[i + n]) / 2 - before[i]
            end
        end
        now, before = before, now
    end
    local sum = 0
    for i = 1, n * n do sum = sum + now[i] * i end
    return ("%.6e"):format(sum)
end

local function particles()
    ffi.cdef("typedef struct { double x, y, vx, vy; int32_t hits; } Particle;")
    local all = ffi.new("Particle[?]", 1000)
    for i = 0, 999 do
        all[i].x, all[i].y, all[i].vx, all[i].vy = random(), random(), random() % 100 - 50, random() % 100 - 50
    end
    for _ = 1, 100 * scale do
        for i = 0, 999 do
            local p = all[i]
            p.x, p.y = p.x + p.vx, p.y + p.vy
            if p.x < 0 or p.x > 65535 then p.vx = -p.vx p.hits = p.hits + 1 end
            if p.y < 0 or p.y > 65535 then p.vy = -p.vy p.hits = p.hits + 1 end
        end
    end
    local hits, x = 0, 0
    for i = 0, 999 do hits, x = hits + all[i].hits, x + all[i].x end
    return ("%d %.3f"):format(hits, x)
end

local function words()
    local parts = {}
    for i = 1, 1500 * scale do parts[i] = ("%s%d"):format(string.char(97 + random() % 26), random() % 500) end
    local text, counts, names = table.concat(parts, " "), {}, {}
    for word in text:gmatch("%a%d+") do
        if not counts[word] then counts[word] = 0 names[#names + 1] = word end
        counts[word] = counts[word] + 1
    end
    table.sort(names, function(a, b)
        if counts[a] ~= counts[b] then return counts[a] > counts[b] end
        return a < b
    end)
    return names[1] .. " " .. counts[names[1]] .. " " .. #names
end

local function queens()
    local solutions = 0
    local n = scale < 40 and 8 or 10
    local all = bit.lshift(1, n) - 1
    local function place(columns, left, right)
        if columns == all then solutions = solutions + 1 return end
        local free = bit.band(all, bit.bnot(bit.bor(columns, left, right)))
        while free ~= 0 do
            local one = bit.band(free, -free)
            free = bit.bxor(free, one)
            place(bit.bor(columns, one), bit.lshift(bit.bor(left, one), 1), bit.rshift(bit.bor(right, one), 1))
        end
    end
    place(0, 0, 0)
    return solutions
end

local function coroutines()
    local sum = 0
    for _ = 1, 20 * scale do
        local produce = coroutine.wrap(function() for i = 1, 500 do coroutine.yield(i) end end)
        for _ = 1, 500 do sum = sum + produce() end
    end
    return sum
end

for _, job in ipairs({ { "wave", wave }, { "particles", particles }, { "words", words }, { "queens", queens },
                       { "coroutines", coroutines } }) do
    print(job[1], job[2]())
end
