-- join: gives buyers their ranks, or the ones that they already have.
--
-- KEYS  1 rec, 2 buyers, then the joiners' hash of each entry
-- ARGV  1 epoch, 2 batch, 3 tail of the gate, 4 end of the committed ranks, 5 cap, 6 the entries: buyer (16 bytes) each
-- Returns a number per entry, in their order: the rank, or
--   -1  no committed rank is left: commit more and ask again
--   -2  the buyer has all the units that the cap allows
-- A rank whose turn has passed, or whose ticket is spent and serves no live order, is replaced by a new one.
local function join(keys, args)
  local record, answer = begin(keys[1], args[1], 'join', args[2], 'rank')
  if not record then
    return answer
  end
  local tail, ranks_end, cap = tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local next_rank = tonumber(record[1])
  local buyers = {}
  for i = 1, #args[6] / 16 do
    buyers[i] = string.sub(args[6], 16 * i - 15, 16 * i)
  end
  local known = redis.call('HMGET', keys[2], unpack(buyers))
  local answers, given = {}, {}
  for i, buyer in ipairs(buyers) do
    local joiner, joiners = string.sub(buyer, 1, 10), keys[2 + i]
    local rank = given[joiner] and given[joiner][2] or tonumber(redis.call('HGET', joiners, joiner))
    local _, live, paid, spent = buyer_parts(known[i])
    if rank and live == 0 and (rank < tail or rank < spent) then
      rank = nil
    end
    if rank then
      answers[i] = rank
    elseif paid >= cap then
      answers[i] = -2
    elseif next_rank >= ranks_end then
      answers[i] = -1
    else
      answers[i] = next_rank
      given[joiner] = {joiners, next_rank}
      next_rank = next_rank + 1
    end
  end
  for joiner, entry in pairs(given) do
    redis.call('HSET', entry[1], joiner, entry[2])
  end
  redis.call('HSET', keys[1], 'rank', next_rank, 'join_batch', args[2], 'join_answer', cmsgpack.pack(answers))
  return answers
end
redis.register_function('fg_join', join)
