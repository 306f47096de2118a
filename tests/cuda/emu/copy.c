/*
 * copy.c - cp.async: copies from global to shared memory that happen some time between issue and wait.
 */
#include "tests/cuda/emu/sanitize.h"
#include "tests/cuda/emu/state.h"

static enum {
    AT_THE_WAIT,
    AT_ONCE,
    EITHER
} moment; /* of this launch */

void emu_copies_at_launch(void)
{
    if (emu_policy_is_random())
        moment = emu_random() % 3 == 0 ? AT_ONCE : emu_random() % 2 ? AT_THE_WAIT : EITHER;
    else
        moment = emu_policy_now == EMU_FORWARD ? AT_THE_WAIT : AT_ONCE;
}

static void carry_out(struct pending *p)
{
    emu_raw_copy(p->to, p->from, p->bytes);
    p->done = true;
}

void emu_copy_async(void *shared, const void *global, size_t bytes, const char *file, int line)
{
    struct thread *me = emu_self();
    struct site site = {file, line};
    emu_check_access(global, bytes, "cp.async from", false, site);
    emu_check_access(shared, bytes, "cp.async to", true, site);
    if (emu_stats_on) {
        emu_note(global, bytes, EMU_READ_STREAM, false, site);
        emu_note(shared, bytes, EMU_WRITE, true, site);
    }
    emu_touch(global, bytes, false);
    emu_touch(shared, bytes, true);
    emu_quiet_begin();
    me->pending =
        emu_grow(me->pending, me->pending_count, &me->pending_capacity, sizeof *me->pending);
    struct pending *p = &me->pending[me->pending_count++];
    *p = (struct pending){shared, global, bytes, me->copy_group, false, site};
    if (moment == AT_ONCE || (moment == EITHER && emu_random() % 2))
        carry_out(p);
    emu_quiet_end();
}

void emu_copy_commit(void)
{
    emu_self()->copy_group++;
}

void emu_copy_wait(int groups_left)
{
    struct thread *me = emu_self();
    size_t kept = 0;
    for (size_t i = 0; i < me->pending_count; i++) {
        struct pending *p = &me->pending[i];
        if (p->group >= me->copy_group - groups_left) {
            me->pending[kept++] = *p;
            continue;
        }
        emu_touch(p->to, p->bytes, true); /* whoever looked before the wait, raced */
        if (!p->done)
            carry_out(p);
    }
    me->pending_count = kept;
}

void emu_copies_at_exit(struct thread *thread)
{
    if (thread->pending_count)
        emu_die("a thread returns before it waited for the cp.async of %s:%d",
                thread->pending[0].site.file, thread->pending[0].site.line);
}
