/* A Modbus device on libmodbus, to try our side against a stack that shares no code with it.
 *
 *   libmodbus_peer tcp            listens on a free port of 127.0.0.1 and prints it
 *   libmodbus_peer rtu PATH UNIT  answers as one unit on a serial device and prints 0
 *
 * Every unit has registers of its own. Holding register k begins as (7 k + 3) mod 65536, input register k as (5 k + 1),
 * coil k is set where k % 3 == 0, discrete input k where k % 4 == 0.
 * Register 500 is a start key: each write of 1 there counts in 501, and 502 shows 1 from the third read of it on; 0 stops.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <modbus.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WORDS = 1000, UNITS = 256, KEY = 500, COUNT = 501, RUNS = 502, CRANKING = 3 };

typedef struct {
    modbus_mapping_t *map;
    int started, reads;
} unit_t;

static unit_t units[UNITS];

static unit_t *unit_of(int number)
{
    unit_t *unit = &units[number & 0xFF];
    if (unit->map == NULL) {
        unit->map = modbus_mapping_new(WORDS, WORDS, WORDS, WORDS);
        if (unit->map == NULL)
            exit(1);
        for (int k = 0; k < WORDS; k++) {
            unit->map->tab_registers[k] = (uint16_t) (7 * k + 3);
            unit->map->tab_input_registers[k] = (uint16_t) (5 * k + 1);
            unit->map->tab_bits[k] = k % 3 == 0;
            unit->map->tab_input_bits[k] = k % 4 == 0;
        }
        unit->map->tab_registers[KEY] = unit->map->tab_registers[COUNT] = unit->map->tab_registers[RUNS] = 0;
    }
    return unit;
}

/* What the key does, after its write has been taken and before it is acknowledged. */
static void turn_key(unit_t *unit, const uint8_t *pdu)
{
    int address = pdu[1] << 8 | pdu[2];
    if ((pdu[0] == 6 || pdu[0] == 16) && address == KEY) {
        int value = pdu[0] == 6 ? pdu[3] << 8 | pdu[4] : pdu[6] << 8 | pdu[7];
        unit->started = value == 1;
        unit->reads = 0;
        if (value == 1)
            unit->map->tab_registers[COUNT]++;
        else
            unit->map->tab_registers[RUNS] = 0;
    }
    if (pdu[0] == 3 && address <= RUNS && RUNS < address + (pdu[3] << 8 | pdu[4]) && unit->started && ++unit->reads >= CRANKING)
        unit->map->tab_registers[RUNS] = 1;
}

static int answer(modbus_t *ctx)
{
    uint8_t query[MODBUS_MAX_ADU_LENGTH];
    int length = modbus_receive(ctx, query);
    if (length <= 0)
        return length; /* 0: for another unit; -1: lost */
    int header = modbus_get_header_length(ctx);
    unit_t *unit = unit_of(query[header - 1]);
    turn_key(unit, query + header);
    return modbus_reply(ctx, query, length, unit->map);
}

static int serve_tcp(void)
{
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
    int listener = modbus_tcp_listen(ctx, 64), most;
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    if (listener < 0 || getsockname(listener, (struct sockaddr *) &name, &size) != 0)
        return 1;
    printf("%d\n", ntohs(name.sin_port));
    fflush(stdout);
    fd_set all, ready;
    FD_ZERO(&all);
    FD_SET(listener, &all);
    for (most = listener;;) {
        ready = all;
        if (select(most + 1, &ready, NULL, NULL, NULL) < 0)
            return 1;
        for (int fd = 0; fd <= most; fd++) {
            if (!FD_ISSET(fd, &ready))
                continue;
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client >= 0 && client < FD_SETSIZE) {
                    FD_SET(client, &all);
                    most = client > most ? client : most;
                } else if (client >= 0) {
                    close(client);
                }
                continue;
            }
            modbus_set_socket(ctx, fd);
            if (answer(ctx) < 0) {
                close(fd);
                FD_CLR(fd, &all);
            }
        }
    }
}

static int serve_rtu(const char *path, int unit)
{
    modbus_t *ctx = modbus_new_rtu(path, 115200, 'N', 8, 1);
    if (ctx == NULL || modbus_set_slave(ctx, unit) != 0 || modbus_connect(ctx) != 0) {
        fprintf(stderr, "%s: %s\n", path, modbus_strerror(errno));
        return 1;
    }
    puts("0");
    fflush(stdout);
    for (;;)
        answer(ctx); /* a damaged question is answered by nothing */
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "tcp") == 0)
        return serve_tcp();
    if (argc == 4 && strcmp(argv[1], "rtu") == 0)
        return serve_rtu(argv[2], atoi(argv[3]));
    fputs("usage: libmodbus_peer tcp | rtu PATH UNIT\n", stderr);
    return 2;
}
