"""The registry's Lua scripts. Each runs as one step: Redis runs nothing else in between.

The scripts that only a leader may run compare its epoch first. Redis' own clock decides whether a lead has ended. That
clock may be set back, as when a replica on another machine takes over: then what lies ahead of it must not last.
"""

from __future__ import annotations

from typing import Final

from cell_worker.redis_client import NEXT_GENERATION as _NEXT_GENERATION
from cell_worker.redis_client import NOW as _NOW
from cell_worker.redis_client import READ as _READ

# Notes a controller that is there to take over. It does so at each of its ticks, while another leads.
_NOTE_HEIR: Final = """
local led_by, led_until = unpack(redis.call('HMGET', KEYS[1], 'owner', 'expires_at_ms'))
if led_by and led_by ~= ARGV[1] and whole(led_until) > now then
  redis.call('HSET', KEYS[1], 'heir', ARGV[1], 'heir_until_ms', string.format('%.0f', now + ARGV[2]))
end
"""

# KEYS: leader. ARGV: owner, time to live in ms, hint. Returns the epoch, or nothing while another owner leads. No lead
# that another waits for lasts longer than the time to live, so the clock set back keeps a dead leader's no longer.
LEAD: Final = (
    _NOW
    + _READ
    + _NOTE_HEIR
    + """
local owner, expires, stored = unpack(redis.call('HMGET', KEYS[1], 'owner', 'expires_at_ms', 'epoch'))
local epoch = whole(stored)
local live = owner and whole(expires) > now
if live and owner ~= ARGV[1] then
  local latest = now + ARGV[2]
  if whole(expires) > latest then redis.call('HSET', KEYS[1], 'expires_at_ms', string.format('%.0f', latest)) end
  return false
end
if not live or epoch <= tonumber(ARGV[3]) - 1 then
  epoch = math.max(epoch + 1, now, tonumber(ARGV[3]) + 1)
end
local text = string.format('%.0f', epoch)
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', text, 'expires_at_ms', string.format('%.0f', now + ARGV[2]))
return text
"""
)

# KEYS: leader. ARGV: owner. Ends this owner's lease; leaves another owner's alone. Returns 1 when no controller is
# left: the leader has resigned, and nobody else waits. A lead that ran out says nothing: its owner may be cut off.
RESIGN: Final = (
    _NOW
    + _READ
    + """
local fields = {'owner', 'expires_at_ms', 'heir', 'heir_until_ms'}
local owner, expires, heir, waits = unpack(redis.call('HMGET', KEYS[1], unpack(fields)))
local leads = owner == ARGV[1] and whole(expires) > now
if owner == ARGV[1] then redis.call('HSET', KEYS[1], 'expires_at_ms', '0') end
if heir == ARGV[1] then redis.call('HDEL', KEYS[1], 'heir', 'heir_until_ms') end
local waited_for = heir and heir ~= ARGV[1] and whole(waits) > now
return (leads or expires == '0') and not waited_for and 1 or 0
"""
)

_FENCE: Final = (
    "if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return redis.error_reply('NOTLEADER another leads') end\n"
)

# KEYS: leader, cells, map, audit, policy, history, proposals, rulings, offers.
# ARGV: epoch, change as JSON, audit entries to keep, policy versions to keep, channel.
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

# KEYS: leader, generations, cells. ARGV: epoch, cell, hint. Returns the generation.
NEXT_GENERATION: Final = _FENCE + _NEXT_GENERATION + "return next_generation(KEYS[2], KEYS[3], ARGV[2], ARGV[3])"

# KEYS: leader, map, cells, leases, policy, routers. ARGV: the map's epoch and the policy's version that the caller has.
# Returns map and policy only where they differ from those.
SNAPSHOT: Final = (
    _NOW
    + _READ
    + """
local epoch = redis.call('HGET', KEYS[2], 'epoch')
local blob = epoch and epoch ~= ARGV[1] and redis.call('HGET', KEYS[2], 'blob')
local owner, expires = unpack(redis.call('HMGET', KEYS[1], 'owner', 'expires_at_ms'))
local leader = owner and whole(expires) > now and owner or ''
local cells, leases = redis.call('HGETALL', KEYS[3]), redis.call('HGETALL', KEYS[4])
local version = redis.call('HGET', KEYS[5], 'version')
local policy = version and version ~= ARGV[2] and redis.call('HGET', KEYS[5], 'blob')
local routers = redis.call('HGETALL', KEYS[6])
local time = string.format('%.0f', now)
return {time, epoch or '', blob or '', leader, cells, leases, version or '', policy or '', routers}
"""
)

# KEYS: routers. ARGV: router, report, time to live in ms (0: the router leaves).
# Removes the reports that expired more than a minute ago.
REPORT: Final = (
    _NOW
    + _READ
    + """
if tonumber(ARGV[3]) == 0 then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local expires = string.format('%.0f', now + ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], '{"expires_at_ms":' .. expires .. ',"report":' .. ARGV[2] .. '}')
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if whole(read(all[i + 1]).expires_at_ms) < now - 60000 then redis.call('HDEL', KEYS[1], all[i]) end
end
"""
)

# KEYS: offers. ARGV: epoch, map, policy. Keeps the offer with the newest map.
OFFER: Final = (
    _READ
    + """
if whole(redis.call('HGET', KEYS[1], 'epoch')) >= tonumber(ARGV[1]) then return end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'map', ARGV[2], 'policy', ARGV[3])
"""
)

# KEYS: proposals, offers. Returns both hashes.
PETITIONS: Final = "return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}"

# KEYS: traffic or samples. ARGV: router, what it has seen as JSON, ms.
# Removes what routers said that have said nothing since, for so many ms, or that said it in the future.
NOTE: Final = (
    _NOW
    + _READ
    + """
redis.call('HSET', KEYS[1], ARGV[1], '{"at_ms":' .. string.format('%.0f', now) .. ',"said":' .. ARGV[2] .. '}')
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at = whole(string.match(all[i + 1], '^{"at_ms":(%d+)'))
  if at < now - ARGV[3] or at > now then redis.call('HDEL', KEYS[1], all[i]) end
end
"""
)

# KEYS: samples. ARGV: ms. Returns what routers have said within the last so many ms.
SAMPLES: Final = (
    _NOW
    + _READ
    + """
local all, found = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local at = whole(string.match(all[i + 1], '^{"at_ms":(%d+)'))
  if at >= now - ARGV[1] and at <= now then
    found[#found + 1] = all[i]
    found[#found + 1] = all[i + 1]
  end
end
return found
"""
)

# KEYS: leader, conditions. ARGV: epoch, the conditions of all cells as JSON.
NOTE_CONDITIONS: Final = _FENCE + "redis.call('HSET', KEYS[2], 'cells', ARGV[2])"
