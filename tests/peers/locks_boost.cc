// A peer for probe.c: Boost.Interprocess's file_lock on one path. locks_boost PATH
#include <fstream>
#include <iostream>
#include <string>

#include <boost/interprocess/sync/file_lock.hpp>

int main(int, char **arguments)
{
	boost::interprocess::file_lock lock;
	std::string order;

	while (std::getline(std::cin, order)) {
		if (order == "take") {
			std::ofstream(arguments[1], std::ios::app).close();
			lock = boost::interprocess::file_lock(arguments[1]);
			std::cout << (lock.try_lock() ? "held" : "busy try_lock() returns false");
		} else if (order == "unlock") {
			lock.unlock();
			std::cout << "done";
		} else {
			lock = boost::interprocess::file_lock();
			std::cout << "done";
		}
		std::cout << std::endl;
	}
}
