-- A peer for probe.c: LuaFileSystem's lock on one path. locks.lua PATH
local lfs = require "lfs"
local file
io.stdout:setvbuf("line")
for order in io.lines() do
	if order == "take" then
		file = assert(io.open(arg[1], "a+"))
		local taken, words = lfs.lock(file, "w")
		print(taken and "held" or "busy lock returns nil, " .. words)
	elseif order == "unlock" then
		print(lfs.unlock(file) and "done" or "failed")
	else
		file:close()
		print("done")
	end
end
