-- settle: follows what Postgres has committed about orders: their units return, or are paid for.
--
-- KEYS  1 rec, 2 units, 3 free, 4 buyers
-- ARGV  1 epoch, 2 batch, 3 the entries, one behind the other: what (1 byte), buyer (16), order (16), rank (8, big-endian),
--       how many units (2), their local indices (4 each), where what is
--         R  returned: the order ended
--         U  undone: the hold was never committed, so its ticket is not spent either
--         P  paid: the units stay with the order, the buyer's live units become paid ones
--         F  refunded: a paid order's units return, and are the buyer's paid ones no more
-- Returns how many units became free. A unit that does not name the order is left alone, so that a return which comes
-- twice, or late, does nothing (INV-1, INV-3); an entry sees what the entries before it did.
-- All is read first and written last, by few calls: units that lie together are read by one and written by one.
local SETTLED, SETTLED_BYTES = '>c1c16c16I8I2', 43
-- Units no further apart than this are read together: what lies between them costs less than a call.
local UNITS_APART = 16
-- What one call may push.
local PUSHED_MAX = 1000

-- Reads who has the units: a table from local index to order.
local function owners_of(key, units)
  local owners, from = {}, 1
  while from <= #units do
    local to = from
    while units[to + 1] and units[to + 1] >= units[to] and units[to + 1] - units[to] <= UNITS_APART do
      to = to + 1
    end
    local first = units[from]
    local bytes = redis.call('GETRANGE', key, first * 16, units[to] * 16 + 15)
    for n = from, to do
      local at = (units[n] - first) * 16
      owners[units[n]] = string.sub(bytes, at + 1, at + 16)
    end
    from = to + 1
  end
  return owners
end

-- Writes that nobody has the units, and that they are free, in their order.
local function free_units(units_key, free_key, units)
  local from = 1
  while from <= #units do
    local to = from
    while units[to + 1] == units[to] + 1 do
      to = to + 1
    end
    redis.call('SETRANGE', units_key, units[from] * 16, string.rep(NO_ORDER, to - from + 1))
    from = to + 1
  end
  for n = 1, #units, PUSHED_MAX do
    redis.call('RPUSH', free_key, unpack(units, n, math.min(n + PUSHED_MAX - 1, #units)))
  end
end

local function settle(keys, args)
  local record, answer = begin(keys[1], args[1], 'settle', args[2])
  if not record then
    return answer
  end
  local entries, buyers, asked, at = {}, {}, {}, 1
  while at <= #args[3] do
    local what, buyer, order, rank, count = struct.unpack(SETTLED, args[3], at)
    at = at + SETTLED_BYTES
    local units = {}
    for n = 1, count do
      units[n] = struct.unpack('>I4', args[3], at)
      at = at + 4
      if what ~= 'P' then
        asked[#asked + 1] = units[n]
      end
    end
    buyers[#buyers + 1] = buyer
    entries[#entries + 1] = {what, order, rank, units}
  end
  local known = #buyers > 0 and redis.call('HMGET', keys[4], unpack(buyers)) or {}
  local owners = owners_of(keys[2], asked)
  local freed, changed = {}, {}
  for i, buyer in ipairs(buyers) do
    local what, order, rank, units = unpack(entries[i])
    local freed_before = #freed
    if what ~= 'P' then
      for _, unit in ipairs(units) do
        if owners[unit] == order then
          owners[unit] = NO_ORDER
          freed[#freed + 1] = unit
        end
      end
    end
    local live_order, live, paid, spent = buyer_parts(changed[buyer] or known[i])
    if what == 'F' then
      paid = math.max(paid - (#freed - freed_before), 0)
      changed[buyer] = buyer_value(live_order, live, paid, spent)
    elseif live_order == order then
      if what == 'P' then
        paid = paid + live
      elseif what == 'U' then
        spent = rank
      end
      changed[buyer] = buyer_value(NO_ORDER, 0, paid, spent)
    end
  end

  free_units(keys[2], keys[3], freed)
  local values = {}
  for buyer, value in pairs(changed) do
    values[#values + 1] = buyer
    values[#values + 1] = value
  end
  if #values > 0 then
    redis.call('HSET', keys[4], unpack(values))
  end
  redis.call('HSET', keys[1], 'settle_batch', args[2], 'settle_answer', cmsgpack.pack(#freed))
  return #freed
end
redis.register_function('fg_settle', settle)
