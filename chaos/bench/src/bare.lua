-- The bare script: what a flash sale is usually built on, as the yardstick for holds.
-- KEYS[1] is the counter of free units; ARGV[1] the buyer, ARGV[2] the seconds that a reservation lasts.
-- Returns -1 when nothing is left, -2 when the buyer has bought, else the reservation's number. Nothing is durable.
local left = tonumber(redis.call('GET', KEYS[1]) or '0')
if left <= 0 then
  return -1
end
local buyers = KEYS[1] .. ':b'
if redis.call('SISMEMBER', buyers, ARGV[1]) == 1 then
  return -2
end
redis.call('DECR', KEYS[1])
redis.call('SADD', buyers, ARGV[1])
local number = redis.call('INCR', KEYS[1] .. ':n')
redis.call('SET', KEYS[1] .. ':r:' .. number, ARGV[1], 'EX', ARGV[2])
return number
