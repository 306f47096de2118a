/*
 * service.h - what the service manager is told (sd_notify), where there is one.
 *
 * Idea     READY once, STOPPING once, STATUS when something changed (at most once a second), and WATCHDOG while
 *          the whole daemon works: this loop turns and the engine gives signs of life (heartbeat.h), or is being
 *          started. A hung or given-up engine gets no food for the watchdog, so the manager starts us anew.
 * Source   sd_notify(3), sd_watchdog_enabled(3). Without libsystemd, or outside systemd, the calls do nothing.
 * See      tests/e2e/test_service.c.
 */
#ifndef LLMD_KEEPER_SERVICE_H
#define LLMD_KEEPER_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

struct keeper;

struct service {
    uint64_t watchdog_ns; /* feed this often; 0: nobody watches */
    uint64_t fed_ns;
    uint64_t told_ns; /* when STATUS was last sent */
    bool changed;     /* STATUS is old */
    bool stopping;    /* STOPPING was sent */
};

void service_open(struct service *service);
void service_ready(void);
void service_stopping(struct keeper *keeper);
/* What STATUS says may have changed. */
void service_note_change(struct keeper *keeper);
/* Tell what is due. Returns when to come back. */
uint64_t service_expire(struct keeper *keeper, uint64_t now_ns);

#endif
