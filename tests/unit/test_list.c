/* list.h: the intrusive doubly linked list. */
#include "base/list.h"
#include "support.h"

struct item {
	int number;
	struct list link;
};

static struct item items[4];

/* The numbers of a list, first to last, and the same backwards. */
static void check(const struct list *head, const char *expected)
{
	char forwards[8] = "", backwards[8] = "";
	size_t n = strlen(expected);
	size_t at = 0;

	list_for_each(link, head)
		forwards[at++] = (char)('0' + list_entry(link, struct item, link)->number);
	ck_assert_str_eq(forwards, expected);
	for (struct list *link = head->previous; link != head; link = link->previous)
		backwards[--at] = (char)('0' + list_entry(link, struct item, link)->number);
	ck_assert_uint_eq(at, 0);
	ck_assert_mem_eq(backwards, expected, n);
	ck_assert_int_eq(list_is_empty(head), n == 0);
}

static struct list *link_of(int number)
{
	items[number].number = number;
	return &items[number].link;
}

START_TEST(test_links_stand_in_the_order_in_which_they_were_added)
{
	struct list list = LIST_INIT(list);

	memset(items, 0, sizeof(items));
	check(&list, "");
	ck_assert_ptr_null(list_first(&list));
	ck_assert_ptr_null(list_last(&list));
	list_add_last(&list, link_of(1));
	list_add_last(&list, link_of(2));
	list_add_first(&list, link_of(0));
	check(&list, "012");
	list_insert_before(link_of(2), link_of(3));
	check(&list, "0132");
	ck_assert_ptr_eq(list_first(&list), link_of(0));
	ck_assert_ptr_eq(list_last(&list), link_of(2));
	ck_assert_ptr_eq(list_next(&list, link_of(0)), link_of(1));
	ck_assert_ptr_null(list_next(&list, link_of(2)));
}
END_TEST

START_TEST(test_link_can_be_removed_at_every_place_and_twice)
{
	for (int removed = 0; removed < 3; removed++) {
		static const char *const left[] = { "12", "02", "01" };
		struct list list;

		memset(items, 0, sizeof(items));
		list_init(&list);
		for (int i = 0; i < 3; i++)
			list_add_last(&list, link_of(i));
		ck_assert(list_is_linked(link_of(removed)));
		list_remove(link_of(removed));
		ck_assert(!list_is_linked(link_of(removed)));
		list_remove(link_of(removed));
		check(&list, left[removed]);
	}
}
END_TEST

START_TEST(test_loop_may_remove_the_link_that_it_is_at)
{
	struct list list = LIST_INIT(list);

	memset(items, 0, sizeof(items));
	for (int i = 0; i < 4; i++)
		list_add_last(&list, link_of(i));
	list_for_each_safe(link, after, &list)
		if (list_entry(link, struct item, link)->number % 2)
			list_remove(link);
	check(&list, "02");
	ck_assert_ptr_eq(list_take_first(&list), link_of(0));
	ck_assert_ptr_eq(list_take_first(&list), link_of(2));
	ck_assert_ptr_null(list_take_first(&list));
	check(&list, "");
}
END_TEST

START_TEST(test_splice_moves_all_to_the_end)
{
	struct list one = LIST_INIT(one), two = LIST_INIT(two);

	memset(items, 0, sizeof(items));
	list_splice_last(&one, &two);
	check(&one, "");
	list_add_last(&two, link_of(2));
	list_add_last(&two, link_of(3));
	list_splice_last(&one, &two);
	check(&one, "23");
	check(&two, "");
	list_add_last(&two, link_of(0));
	list_splice_last(&one, &two);
	check(&one, "230");
}
END_TEST

int main(void)
{
	return support_main(SUITE("list",
	                          test_links_stand_in_the_order_in_which_they_were_added,
	                          test_link_can_be_removed_at_every_place_and_twice,
	                          test_loop_may_remove_the_link_that_it_is_at,
	                          test_splice_moves_all_to_the_end));
}
