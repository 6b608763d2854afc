"""The registry's Lua scripts: each is one step that nothing comes between.

Every write compares the leader's epoch first. Redis' own clock decides what has expired.
"""

from __future__ import annotations

from typing import Final

_NOW: Final = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

# KEYS: leader. ARGV: owner, ttl in ms, hint. Returns the epoch, or nothing while another leads.
LEAD: Final = (
    _NOW
    + """
local owner, expires, stored = unpack(redis.call('HMGET', KEYS[1], 'owner', 'expires_at_ms', 'epoch'))
local epoch = tonumber(stored) or 0
local live = owner and tonumber(expires) > now
if live and owner ~= ARGV[1] then return false end
if not live or epoch <= tonumber(ARGV[3]) - 1 then
  epoch = math.max(epoch + 1, now, tonumber(ARGV[3]) + 1)
end
local text = string.format('%.0f', epoch)
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', text, 'expires_at_ms', string.format('%.0f', now + ARGV[2]))
return text
"""
)

# KEYS: leader. ARGV: owner.
RESIGN: Final = """
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then redis.call('HSET', KEYS[1], 'expires_at_ms', '0') end
"""

_FENCE: Final = (
    "if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return redis.error_reply('NOTLEADER another leads') end\n"
)

# KEYS: leader, cells, map, audit, policy, history, proposals, rulings, offers.
# ARGV: epoch, change, most audit entries, most versions in the history, channel.
WRITE: Final = (
    _FENCE
    + """
local change = cjson.decode(ARGV[2])
for id, record in pairs(change.cells) do redis.call('HSET', KEYS[2], id, record) end
if change.map_epoch then
  redis.call('HSET', KEYS[3], 'epoch', change.map_epoch, 'blob', change.map)
  redis.call('DEL', KEYS[9])
end
if change.policy_version then
  redis.call('HSET', KEYS[5], 'version', change.policy_version, 'blob', change.policy)
  redis.call('HSET', KEYS[6], change.policy_version, change.policy_entry)
  redis.call('HDEL', KEYS[6], string.format('%.0f', change.policy_version - ARGV[4]))
end
for id, ruling in pairs(change.rulings) do
  redis.call('HSET', KEYS[8], id, ruling)
  redis.call('HDEL', KEYS[7], id)
end
for _, entry in ipairs(change.audit) do redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[3], '*', 'entry', entry) end
redis.call('PUBLISH', ARGV[5], ARGV[1])
"""
)

# KEYS: leader, generations, cells. ARGV: epoch, cell, hint.
NEXT_GENERATION: Final = (
    _FENCE
    + """
local record = redis.call('HGET', KEYS[3], ARGV[2])
local admitted = record and cjson.decode(record).generation or 0
local stored = tonumber(redis.call('HGET', KEYS[2], ARGV[2])) or 0
local next_one = math.max(stored, admitted, tonumber(ARGV[3])) + 1
redis.call('HSET', KEYS[2], ARGV[2], next_one)
return next_one
"""
)

# KEYS: leader, map, cells, leases, policy, routers. ARGV: known epoch of the map, known version of the policy.
SNAPSHOT: Final = (
    _NOW
    + """
local epoch = redis.call('HGET', KEYS[2], 'epoch')
local blob = epoch and epoch ~= ARGV[1] and redis.call('HGET', KEYS[2], 'blob')
local owner, expires = unpack(redis.call('HMGET', KEYS[1], 'owner', 'expires_at_ms'))
local leader = owner and tonumber(expires) > now and owner or ''
local cells, leases = redis.call('HGETALL', KEYS[3]), redis.call('HGETALL', KEYS[4])
local version = redis.call('HGET', KEYS[5], 'version')
local policy = version and version ~= ARGV[2] and redis.call('HGET', KEYS[5], 'blob')
local routers = redis.call('HVALS', KEYS[6])
local time = string.format('%.0f', now)
return {time, epoch or '', blob or '', leader, cells, leases, version or '', policy or '', routers}
"""
)

# KEYS: routers. ARGV: router, report, ttl in ms; 0 to leave. Forgets the others whose lease ended a minute ago.
REPORT: Final = (
    _NOW
    + """
if tonumber(ARGV[3]) == 0 then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local expires = string.format('%.0f', now + ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], '{"expires_at_ms":' .. expires .. ',"report":' .. ARGV[2] .. '}')
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if cjson.decode(all[i + 1]).expires_at_ms < now - 60000 then redis.call('HDEL', KEYS[1], all[i]) end
end
"""
)

# KEYS: offers. ARGV: epoch, map, policy. The newest map that anybody knows of.
OFFER: Final = """
if (tonumber(redis.call('HGET', KEYS[1], 'epoch')) or -1) >= tonumber(ARGV[1]) then return end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'map', ARGV[2], 'policy', ARGV[3])
"""

# KEYS: proposals, offers.
PETITIONS: Final = "return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}"

# KEYS: traffic, or samples. ARGV: router, what it has seen, ms. Forgets routers that said nothing for so long.
NOTE: Final = (
    _NOW
    + """
redis.call('HSET', KEYS[1], ARGV[1], '{"at_ms":' .. string.format('%.0f', now) .. ',"said":' .. ARGV[2] .. '}')
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if tonumber(string.match(all[i + 1], '^{"at_ms":(%d+)')) < now - ARGV[3] then redis.call('HDEL', KEYS[1], all[i]) end
end
"""
)

# KEYS: samples. ARGV: ms. What routers have said within them.
SAMPLES: Final = (
    _NOW
    + """
local all, found = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  if tonumber(string.match(all[i + 1], '^{"at_ms":(%d+)')) >= now - ARGV[1] then
    found[#found + 1] = all[i]
    found[#found + 1] = all[i + 1]
  end
end
return found
"""
)

# KEYS: leader, conditions. ARGV: epoch, every cell's condition.
NOTE_CONDITIONS: Final = _FENCE + "redis.call('HSET', KEYS[2], 'cells', ARGV[2])"
