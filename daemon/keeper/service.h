/*
 * service.h - what the service manager is told (sd_notify), where there is one.
 *
 * Source   sd_notify(3). Without libsystemd, or outside systemd, the calls do nothing.
 */
#ifndef LLMD_KEEPER_SERVICE_H
#define LLMD_KEEPER_SERVICE_H

void service_ready(void);
void service_stopping(void);

#endif
