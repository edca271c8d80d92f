-- The record of a bucket, which every function looks at first.
--
-- Keys of a bucket, all under the tag {org:sale:bucket}, with the epoch e in what a take-over loads anew:
--   fg:{tag}:rec       hash: epoch, open, run, granted, next, rank, and each stage's last batch and answer
--   fg:{tag}:e<e>:u    16 bytes a unit, at its local index: the order that has it, zeros when it is free
--   fg:{tag}:e<e>:f    list of local indices that were returned and are free; those from `next` on were never granted
--   fg:{tag}:e<e>:b    hash: buyer -> order (16 bytes, zeros when none is live), live units, paid units (a byte each),
--                      spent (8 bytes, big-endian): the buyer's tickets of ranks below it are spent. A buyer's ranks rise,
--                      so that one number says it of all of them.
--   fg:{tag}:j:n       hash: first 10 bytes of a buyer -> rank of their ticket
--
-- A function answers an error whose first word says what to do:
--   MISSING   no record, or not open: Redis has forgotten the bucket; take it over
--   STALE     another epoch: step down, or take it over
--   GAP       the batch is not the next one: this is an older Redis; take the bucket over

-- Sixteen zeros. (While a library loads there is no `string` to make them with.)
local NO_ORDER = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'

-- Reads a bucket's record for the batch `batch` of `stage`, and the further fields `...`.
-- Returns nil and the final answer when there is nothing to do: a refusal, or the last batch's answer once more (so a
-- batch whose answer was lost can be sent again). Otherwise returns the fields' values. Keeps INV-8.
local function begin(key, epoch, stage, batch, ...)
  local values = redis.call('HMGET', key, 'epoch', 'open', stage .. '_batch', stage .. '_answer', ...)
  if not values[1] or values[2] ~= '1' then
    return nil, redis.error_reply('MISSING no open record of this bucket')
  end
  if values[1] ~= epoch then
    return nil, redis.error_reply('STALE the epoch is ' .. values[1])
  end
  local last = tonumber(values[3] or '0')
  batch = tonumber(batch)
  if batch == last and values[4] then
    return nil, cmsgpack.unpack(values[4])
  end
  if batch ~= last + 1 then
    return nil, redis.error_reply('GAP the last batch is ' .. last)
  end
  return {unpack(values, 5)}
end

-- Splits a buyer's value into order, live units, paid units and spent.
local function buyer_parts(value)
  if not value then
    return NO_ORDER, 0, 0, 0
  end
  return struct.unpack('>c16BBI8', value)
end

local function buyer_value(order, live, paid, spent)
  return struct.pack('>c16BBI8', order, live, paid, spent)
end
