-- hold: grants the right to try to hold units; Postgres decides.
--
-- KEYS  1 rec, 2 units, 3 free, 4 buyers
-- ARGV  1 epoch, 2 batch, 3 cap, 4 the entries, 41 bytes each: buyer (16), order (16), rank (8, big-endian), quantity (1)
-- Returns one string, an answer per entry, in their order; an entry sees what the entries before it did:
--   'G' paid, n, n times 4 bytes big-endian
--                              granted: the buyer's paid units and how many are granted (a byte each), their local indices
--   'L' 16 bytes               the buyer has this live order already
--   'S'                        the ticket is spent
--   'C' units                  it would exceed the cap: this many (a byte) the buyer has
--   'N'                        too few units are free
-- Keeps: a unit is granted to one order (INV-1), a buyer stays below the cap (INV-4), a ticket serves one order (INV-7).
-- All is decided before anything is written. A call into Redis costs more than an entry, so all buyers are read by one and
-- written by one.
local ENTRY, ENTRY_BYTES = '>c16c16I8B', 41

local function hold(keys, args)
  local record, answer = begin(keys[1], args[1], 'hold', args[2], 'next', 'granted')
  if not record then
    return answer
  end
  local cap, next_unit, granted = tonumber(args[3]), tonumber(record[1]), tonumber(record[2])
  local count, wanted = #args[4] / ENTRY_BYTES, 0
  local buyers, orders, ranks, quantities = {}, {}, {}, {}
  for i = 1, count do
    buyers[i], orders[i], ranks[i], quantities[i] = struct.unpack(ENTRY, args[4], (i - 1) * ENTRY_BYTES + 1)
    wanted = wanted + quantities[i]
  end
  local known = redis.call('HMGET', keys[4], unpack(buyers))
  local returned = redis.call('LRANGE', keys[3], 0, wanted - 1)
  local used, fresh, first_fresh, reused = 0, {}, next_unit, {}
  local answers, changed = {}, {}
  for i = 1, count do
    local buyer, order, rank, quantity = buyers[i], orders[i], ranks[i], quantities[i]
    local live_order, live, paid, spent = buyer_parts(changed[buyer] or known[i])
    if live > 0 then
      answers[i] = 'L' .. live_order
    elseif rank < spent then
      answers[i] = 'S'
    elseif paid + quantity > cap then
      answers[i] = 'C' .. string.char(paid)
    elseif (#returned - used) + (granted - next_unit) < quantity then
      answers[i] = 'N'
    else
      local units = {struct.pack('c1BB', 'G', paid, quantity)}
      for n = 1, quantity do
        local unit
        if used < #returned then
          used = used + 1
          unit = tonumber(returned[used])
          reused[#reused + 1] = {unit, order}
        else
          unit = next_unit
          next_unit = next_unit + 1
          fresh[#fresh + 1] = order
        end
        units[n + 1] = struct.pack('>I4', unit)
      end
      answers[i] = table.concat(units)
      changed[buyer] = buyer_value(order, quantity, paid, rank + 1)
    end
  end

  if #fresh > 0 then
    redis.call('SETRANGE', keys[2], first_fresh * 16, table.concat(fresh))
  end
  for _, pair in ipairs(reused) do
    redis.call('SETRANGE', keys[2], pair[1] * 16, pair[2])
  end
  if used > 0 then
    redis.call('LTRIM', keys[3], used, -1)
  end
  local values = {}
  for buyer, value in pairs(changed) do
    values[#values + 1] = buyer
    values[#values + 1] = value
  end
  if #values > 0 then
    redis.call('HSET', keys[4], unpack(values))
  end
  answers = table.concat(answers)
  redis.call('HSET', keys[1], 'next', next_unit, 'hold_batch', args[2], 'hold_answer', cmsgpack.pack(answers))
  return answers
end
redis.register_function('fg_hold', hold)
